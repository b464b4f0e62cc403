"""``arbprov health``, for exec probes: it has to start quickly, so it imports little."""

from __future__ import annotations

import socket

import click

__all__ = ["health"]

# Seconds for the whole answer, and for each part of it.
_TIMEOUT = 5.0
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing listens there


@click.command(short_help="Ask a running provider whether it lives or is ready.")
@click.argument(
    "check", type=click.Choice(["livez", "readyz", "startupz"]), default="livez", required=False
)
@click.option(
    "--url",
    metavar="HOST:PORT",
    envvar="ARBPROV_MONITORING",
    required=True,
    show_envvar=True,
    help="Where the provider serves its monitoring, as HOST:PORT or http://HOST:PORT.",
)
def health(check: str, url: str) -> None:
    """Ask a running provider whether it lives, is ready, or has started.

    The exit code is 0 if so, and 1 if not; the reason is printed. `livez` asks whether its event
    loop turns, `readyz` whether the hub answers it and it is not draining, and `startupz` whether
    its startup hooks have run.
    """
    host, _, port = url.removeprefix("http://").rstrip("/").rpartition(":")
    host = host.strip("[]")
    if not host or not (port.isascii() and port.isdigit()):
        raise click.BadParameter(f"{url!r} must be HOST:PORT", param_hint="'--url'")
    try:
        status, reason = _ask(_ANY_ADDRESS.get(host, host), int(port), check)
    except (OSError, ValueError, OverflowError) as error:
        status, reason = 0, f"no answer from {url}: {error}"
    click.echo(reason, err=status != 200)
    if status != 200:
        click.get_current_context().exit(1)


def _ask(host: str, port: int, check: str) -> tuple[int, str]:
    """Return the status and the text of the answer.

    Raises:
        OSError: There is no answer.
        ValueError: The answer is not HTTP.
    """
    # Without `http.client`, whose import takes as long as the rest.
    with socket.create_connection((host, port), _TIMEOUT) as connection:
        connection.sendall(f"GET /{check} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        with connection.makefile("rb") as answer:
            head, _, text = answer.read(65_536).partition(b"\r\n\r\n")
    version, status, *_ = head.split(maxsplit=2)
    if not version.startswith(b"HTTP/"):
        raise ValueError("it is not HTTP")
    return int(status), text.decode(errors="replace").strip()
