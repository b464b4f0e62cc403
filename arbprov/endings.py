"""Saying how a process has ended."""

from __future__ import annotations

import signal

__all__ = ["how_it_ended"]


def how_it_ended(exit_code: int | None) -> str:
    """Return what a process with this exit code did, for a sentence that it is the subject of."""
    if exit_code is None:
        return "has closed its connection"
    if exit_code >= 0:
        return f"ended with exit code {exit_code}"
    if exit_code == -signal.SIGKILL:
        return "was killed by SIGKILL, as the system does when memory runs out"
    return f"was killed by {_signal_name(-exit_code)}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"
