"""The memory that another process holds, as Linux tells it."""

from __future__ import annotations

from pathlib import Path

MEBIBYTE = 1024 * 1024


def resident(pid: int) -> float:
    """Return what a process holds now, in MiB."""
    return _status(pid, "VmRSS")


def peak(pid: int) -> float:
    """Return the most that a process has held since `forget_peak`, in MiB."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Have the peak begin anew with what is held now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
