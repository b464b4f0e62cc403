"""Running as PID 1, as in a container, where the system hands every orphan over to this process.

PID 1 has to wait for each orphan that ends, or it stays a zombie. A provider that waited for all of
its children would take the exit codes of the author's own subprocesses. So PID 1 forks: the fork
goes on as the provider, and PID 1 itself does nothing else than wait, and forward signals.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys

from arbprov.executors.descendants import list_children

__all__ = ["fork_as_pid_1"]

logger = logging.getLogger("arbprov")

# A shell's exit code for a process that a signal killed is this and the signal's number.
_KILLED = 128
# They stop or end PID 1 itself, or say that it made an error.
_OWN_SIGNALS = {
    *(signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE),
    *(signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS),
}


def fork_as_pid_1() -> None:
    """Return in a fork if this process is PID 1, so that orphans are waited for; else do nothing.

    A process that has threads or child processes already does not fork, since the fork would have
    neither; the log says so.
    """
    if os.getpid() != 1 or sys.platform != "linux":
        return
    if len(os.listdir("/proc/self/task")) > 1 or list_children(1):
        logger.warning(
            "this process is PID 1, and has threads or child processes already, so orphans of "
            "handlers stay zombies; run the container with an init, as in docker run --init"
        )
        return
    forwarded = {int(number) for number in signal.valid_signals() - _OWN_SIGNALS}
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, forwarded)
    provider = os.fork()
    if provider:
        # The buffers of stdout and stderr belong to the fork.
        os._exit(_wait_for_all(provider, forwarded))  # pragma: no cover - nothing measures it
    signal.pthread_sigmask(signal.SIG_SETMASK, previous)


def _wait_for_all(provider: int, forwarded: set[int]) -> int:
    """Wait for orphans and forward signals until the provider ends; return its exit code.

    Args:
        provider: The provider's process.
        forwarded: The signals to forward; they are blocked.
    """
    # If it were ignored, as a parent may have left it, the exit code would be lost.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    while (code := _reap(provider)) is None:
        signalled = signal.sigwaitinfo(forwarded)
        # The terminal's own signals have reached the provider too, which is in the same group; a
        # second SIGINT would end it at once.
        is_of_kernel = signalled.si_code > 0
        if not is_of_kernel:
            with contextlib.suppress(OSError):
                os.kill(provider, signalled.si_signo)
    return code


def _reap(provider: int) -> int | None:
    """Wait for all child processes that have ended; return the provider's exit code, if it has."""
    code = None
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            if ended[0] == provider:
                status = os.waitstatus_to_exitcode(ended[1])
                code = status if status >= 0 else _KILLED - status
    return code
