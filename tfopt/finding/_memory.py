"""How much memory something takes at its highest."""

from __future__ import annotations

import contextlib
import ctypes
import math
from collections.abc import Callable
from pathlib import Path

import psutil

from .. import backend

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_of(work: Callable[[], object]) -> int | None:
    """Does some work, and returns how many bytes more than before it were taken at its highest; None where the system does not tell.

    TensorFlow counts them on GPUs, of the fullest one, and on CPUs where oneDNN allocates, which keeps what was free once. On others it is
    what the whole process holds in RAM: after what is free in C's heap has gone back to Linux, whose high-water mark is set back for it
    ("5" in clear_refs, see proc(5)).
    """
    counted = _gpus() or _counted_cpu()
    return _peak_of_devices(counted, work) if counted else _peak_of_process(work)


def room() -> float:
    """The bytes that are free without swapping; infinite on GPUs, where TensorFlow says itself when there are no more."""
    return math.inf if _gpus() else psutil.virtual_memory().available


def _gpus() -> list[str]:
    return [device.name.removeprefix("/device:") for device in backend.tensorflow().config.list_logical_devices("GPU")]


def _counted_cpu() -> list[str]:
    """The CPU, where TensorFlow counts its memory."""
    try:
        backend.tensorflow().config.experimental.get_memory_info("CPU:0")
    except ValueError:
        return []
    return ["CPU:0"]


def _peak_of_devices(devices: list[str], work: Callable[[], object]) -> int:
    memory = backend.tensorflow().config.experimental
    before = {}
    for device in devices:
        memory.reset_memory_stats(device)
        before[device] = memory.get_memory_info(device)["current"]
    work()
    return max(memory.get_memory_info(device)["peak"] - before[device] for device in devices)


def _peak_of_process(work: Callable[[], object]) -> int | None:
    with contextlib.suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)
    try:
        before = _told("VmRSS")
        _CLEAR.write_text("5")
    except OSError:
        work()
        return None
    work()
    return max(0, _told("VmHWM") - before)


def _told(name: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(f"{name}:"))
    return 1024 * int(line.split()[1])
