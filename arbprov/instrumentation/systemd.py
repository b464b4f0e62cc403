"""Telling systemd that a service is ready, stops and lives: ``Type=notify`` and ``WatchdogSec``."""

from __future__ import annotations

import contextlib
import os
import socket

__all__ = ["SystemdNotifier", "make_notifier"]


class SystemdNotifier:
    """Sends each change of the state once, and each sign of life.

    Args:
        address: The value of ``NOTIFY_SOCKET``.
    """

    def __init__(self, address: str) -> None:
        # An abstract socket's name begins with a null byte.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._told: set[str] = set()

    def tell(self, *, has_started: bool, is_draining: bool, is_alive: bool) -> None:
        """Tell systemd what it does not know yet; call this each second while the loop turns."""
        states = {"READY=1": has_started, "STOPPING=1": is_draining}
        news = [text for text, is_so in states.items() if is_so and text not in self._told]
        self._told.update(news)
        if is_alive:
            news.append("WATCHDOG=1")
        if not news:
            return
        # systemd may be gone, or its queue full; no task and no stop depends on it.
        with contextlib.suppress(OSError), _open_socket() as connection:
            connection.sendto("\n".join(news).encode(), self._address)


def _open_socket() -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    connection.setblocking(False)
    return connection


def make_notifier() -> SystemdNotifier | None:
    """Return the notifier of this process; None if systemd did not start it as ``Type=notify``."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    return SystemdNotifier(address) if address[:1] in {"/", "@"} else None
