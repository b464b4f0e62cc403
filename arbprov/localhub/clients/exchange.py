"""What sync and async clients share: the connection's settings, and how answers become values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import urlsplit

import attrs

from arbprov.errors import AuthenticationError, HubConnectionError, HubError, Problem
from arbprov.localhub.clients.requests import Call
from arbprov.localhub.queue import Change
from arbprov.payload.json import parse_object, parse_value
from arbprov.payload.validation import ValidationFailure
from arbprov.wire.proxies import is_local_host

__all__ = ["EventReader", "Exchange", "RequestRefused"]

ReturnT = TypeVar("ReturnT")

# Seconds for a connection.
_CONNECT_TIMEOUT = 5.0
# A stream of events has a line at least each 15 seconds.
_SILENCE = 60.0
# The index of a task, at the start of a problem's path.
_INDEX = re.compile(r"(^|; )\[(\d+)\]", re.ASCII)
# A payload of the greatest depth, in a page.
_MAX_DEPTH = 200


class RequestRefused(HubError):
    """The hub refuses a request.

    Attributes:
        status: The HTTP status: 404 for an unknown task, 409 if its state does not allow the
            change, 422 if the request is not valid.
        problems: The problems of the request.
    """

    def __init__(self, message: str, status: int, problems: Sequence[Problem] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.problems = list(problems)


@attrs.frozen
class Exchange:
    """Makes the arguments of httpx, and values and errors of what httpx returns and raises.

    Args:
        base_url: The address of the hub's API.
        token: The token.
        timeout: Seconds to read each part of an answer, and to send each part of a request.
    """

    base_url: str
    token: str = attrs.field(repr=False)
    timeout: float

    @property
    def client_options(self) -> dict[str, Any]:
        """The arguments of an `httpx.Client`."""
        return {
            "headers": {"Authorization": f"Bearer {self.token}".encode()},
            # A proxy cannot reach this machine.
            "trust_env": not is_local_host(urlsplit(self.base_url).hostname or ""),
        }

    def request_options(self, call: Call[Any]) -> dict[str, Any]:
        """The arguments of a request."""
        options: dict[str, Any] = {
            "method": call.method,
            "url": self.base_url + call.path,
            "timeout": self._timeouts(self.timeout + call.hold),
        }
        if call.body is not None:
            options |= {"content": call.body, "headers": {"Content-Type": "application/json"}}
        return options

    def stream_options(self, call: Call[Any]) -> dict[str, Any]:
        """The arguments of a request whose answer is a stream of events."""
        return {**self.request_options(call), "timeout": self._timeouts(_SILENCE)}

    def _timeouts(self, seconds: float) -> tuple[float, float, float, float]:
        # To connect, read, write, and to get a connection.
        return (_CONNECT_TIMEOUT, seconds, self.timeout, self.timeout)

    def read(self, call: Call[ReturnT], status: int, content: bytes) -> ReturnT:
        """Return the value of an answer.

        Raises:
            AuthenticationError: The hub refuses the token.
            HubError: The hub refuses the request, or the answer is not that of a hub.
        """
        if not 200 <= status < 300:
            raise self.find_refusal(status, content, call.first)
        try:
            return call.read(parse_value(content, _MAX_DEPTH) if content else None)
        except ValueError as error:
            raise HubError(
                f"the answer of the hub at {self.base_url} can't be read: {error}; is it a bundled "
                f"hub of this version of arbprov?"
            ) from None

    def find_refusal(self, status: int, content: bytes, first: int = 0) -> HubError:
        """Return the error for an answer that is a refusal.

        Args:
            status: The HTTP status.
            content: The answer's body.
            first: Which of all tasks was the first in the request; see `Call`.
        """
        name = f"the hub at {self.base_url}"
        try:
            problem = parse_object(content)
        except ValidationFailure:
            problem = {}
        detail = problem.get("detail")
        if not isinstance(detail, str):
            return HubError(
                f"{name} answers with HTTP status {status}, and not as a bundled hub does; is "
                f"there another server, or a proxy?"
            )
        if status == 401:
            return AuthenticationError(f"{name} refuses the token: {detail}")
        listed = problem.get("problems")
        problems = [
            Problem(_shift(str(item.get("path", "")), first), str(item.get("message", "")))
            for item in (listed if isinstance(listed, list) else ())
            if isinstance(item, Mapping)
        ]
        return RequestRefused(f"{name}: {_shift(detail, first)}", status, problems)

    def check_stream(self, kind: str) -> None:
        """Check the Content-Type of an answer with status 200 that must be a stream of events.

        Raises:
            HubError: Another server has answered.
        """
        if not kind.startswith("text/event-stream"):
            raise self.find_refusal(200, b"")

    def find_address_error(self, error: Exception) -> HubError:
        """Return the error for a request whose address cannot be sent."""
        return HubError(
            f"the request's address can't be sent to the hub at {self.base_url}: {error}; ask for "
            f"fewer or shorter ids"
        )

    def find_connection_error(self, error: Exception) -> HubConnectionError:
        """Return the error for an error of the connection."""
        reason = str(error) or type(error).__name__
        return HubConnectionError(
            f"the hub at {self.base_url} can't be reached: {reason}; does `arbprov hub` serve its "
            f"HTTP API at this address?"
        )


def _shift(text: str, first: int) -> str:
    """Return problems of tasks, with each task's index among all tasks, not in its request."""
    return _INDEX.sub(lambda found: f"{found[1]}[{int(found[2]) + first}]", text)


class EventReader:
    """Makes changes from the lines of a stream of events."""

    def __init__(self) -> None:
        self._kind = ""
        self._data = ""

    def read(self, line: str) -> Change | None:
        """Take a line; return the change that ends with it.

        Raises:
            HubError: An event is not that of a hub.
        """
        if line.startswith("event: "):
            self._kind = line[len("event: ") :]
        elif line.startswith("data: "):
            self._data = line[len("data: ") :]
        elif not line and self._kind:
            try:
                data = parse_object(self._data.encode())
            except ValidationFailure as failure:
                raise HubError(
                    f"an event of the hub can't be read: {failure}; is it a bundled hub of this "
                    f"version of arbprov?"
                ) from None
            self._kind = ""
            return Change(data.get("id", ""), data.get("state", ""))
        return None
