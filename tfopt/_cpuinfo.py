"""What Linux tells of the processor."""

from __future__ import annotations

from pathlib import Path


def first(name: str) -> str:
    """The value of that name for the first core, such as "model name" or "flags"; empty where nothing tells it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(errors="replace").splitlines() if table.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), "")
