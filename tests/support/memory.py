"""The memory of another process, by Linux's figures."""

from __future__ import annotations

from pathlib import Path

MEBIBYTE = 1024 * 1024


def resident(pid: int) -> float:
    """Return the memory that a process uses now, in MiB."""
    return _status(pid, "VmRSS")


def peak(pid: int) -> float:
    """Return the most memory that a process has used since `forget_peak`, in MiB."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    """Reset a process's peak to the memory it uses now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _status(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(f"{name}:"))
    return int(line.split()[1]) / 1024
