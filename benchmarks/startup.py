"""How long `import tfopt` and `tfopt --help` take: python benchmarks/startup.py     (about 10 seconds)

Each round starts every command once, so that a slow moment of the machine falls on all of them; medians over the rounds. "over bare python"
is what a command adds to `python -c pass`. Expected: `import tfopt` adds less than 0.1 s, `tfopt --help` takes less than 0.5 s.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import tfopt": [sys.executable, "-c", "import tfopt"],
    "tfopt --help": [str(Path(sys.executable).with_name("tfopt")), "--help"],
}
BARE = next(iter(COMMANDS))
LIMITS = {"import tfopt": ("over bare python", 0.1), "tfopt --help": ("wall", 0.5)}  # seconds
RESULTS = Path(__file__).parent / "results" / "startup.json"


def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Command -> "wall" and "cpu" -> seconds, a value a round; one round before the first warms the disk's cache."""
    samples = {name: {"wall": [], "cpu": []} for name in COMMANDS}
    for counted in [False] + [True] * rounds:
        for name, command in COMMANDS.items():
            before, start = os.times(), time.perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            wall, after = time.perf_counter() - start, os.times()
            if counted:
                samples[name]["wall"].append(wall)
                samples[name]["cpu"].append(after.children_user + after.children_system - before.children_user - before.children_system)
    return samples


def medians(samples: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, float]]:
    """Command -> median seconds: wall, CPU, and the wall seconds over bare python."""
    rows = {name: {kind: statistics.median(values) for kind, values in kinds.items()} for name, kinds in samples.items()}
    return {name: {**row, "over bare python": row["wall"] - rows[BARE]["wall"]} for name, row in rows.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15, help="how often each command is started (default: %(default)s)")
    samples = measure(parser.parse_args().rounds)
    rows = medians(samples)
    table = Table("command", "wall s", "CPU s", "over bare python s", "limit", title="startup, medians")
    for name, row in rows.items():
        kind, limit = LIMITS.get(name, ("", None))
        words = "" if limit is None else f"{kind} < {limit} s: {'kept' if row[kind] < limit else 'BROKEN'}"
        table.add_row(name, *(f"{row[column]:.3f}" for column in ("wall", "cpu", "over bare python")), words)
    Console().print(table)
    environment = {"tfopt": importlib.metadata.version("tfopt"), "python": platform.python_version(), "cores": os.cpu_count()}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"environment": environment, "medians": rows, "samples": samples}, indent=1) + "\n")
    return int(any(rows[name][kind] >= limit for name, (kind, limit) in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
