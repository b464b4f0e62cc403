"""A client that calls actions through a bundled hub in another process."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc
from typing_extensions import Self

from arbprov.errors import (
    AuthenticationError,
    ConfigurationError,
    HubConnectionError,
    HubError,
)
from arbprov.localhub.tickets import Submission
from arbprov.payload.serialize import to_builtins
from arbprov.payload.validation import ValidationFailure
from arbprov.wire.proxies import find_proxy, http_status, is_local
from arbprov.wire.url import parse_hub_url

__all__ = ["LocalHubClient"]

# Seconds for the network, added to the call's own timeout.
_NETWORK_TIME = 5.0
# Seconds for a batch of tasks to be stored.
_SUBMIT_TIME = 60.0
# A result may have any size that the hub accepts from a provider.
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class LocalHubClient:
    """Calls actions through a bundled hub.

    Inside a ``with`` block, all calls share a connection.

    Args:
        address: The hub's address or URL.
        token: The hub's token.

    Raises:
        ConfigurationError: The address is not valid for a bundled hub.

    >>> from arbprov import ProviderApp
    >>> from arbprov.localhub import LocalHub
    >>> from arbprov.testing import serving
    >>> app = ProviderApp("weather")
    >>> @app.action
    ... def forecast(city: str) -> dict:
    ...     return {"city": city}
    >>> with LocalHub(hold=0.1) as hub, serving(app, hub):
    ...     LocalHubClient(hub.address, hub.token).call("forecast", {"city": "Paris"}).data
    {'city': 'Paris'}
    """

    def __init__(self, address: str, token: str) -> None:
        try:
            endpoint = parse_hub_url(address)
        except ValueError as error:
            raise ConfigurationError(f"the hub's address {address!r} {error}") from None
        if endpoint.tls:
            raise ConfigurationError(
                f"the hub's address {address!r} asks for TLS, which a bundled hub does not speak; "
                f"write grpc:// or host:port"
            )
        self._address = endpoint.target
        # The hub's name in errors.
        self._name = f"the hub at {self._address}"
        if proxy := find_proxy(self._address):
            self._name += f" through the proxy {proxy}"
        # A proxy, which gRPC takes from the environment, cannot reach this machine.
        self._options = [*_OPTIONS, ("grpc.enable_http_proxy", int(not is_local(self._address)))]
        self._token = token
        self._channel: Any = None

    def call(
        self,
        action: str,
        payload: Mapping[str, Any] | None = None,
        *,
        account: Mapping[str, Any] | None = None,
        provider: str = "",
        timeout: float = 10.0,
    ) -> Submission:
        """Run an action and return its result.

        Args:
            action: Name of the action to run.
            payload: The task's payload.
            account: The task's account.
            provider: Name of the provider that must run it; empty for any provider.
            timeout: Seconds to wait for the result.

        Raises:
            HubConnectionError: No bundled hub answers at the address.
            AuthenticationError: The token is wrong.
            TimeoutError: No result came in time.
            HubError: The task is not valid, or the hub cannot keep it.
        """
        task = {"action": action, "payload": payload, "account": account, "provider": provider}
        ids = self.submit([task])
        if results := self.results(ids, timeout):
            return results[0]
        raise TimeoutError(
            f"no result of action {action!r} within {timeout:g} s; does a provider with this "
            f"action run on this hub?"
        )

    def submit(self, tasks: Sequence[Mapping[str, Any]]) -> list[str]:
        """Add tasks, all or none of them, and return their ids.

        Args:
            tasks: The arguments of `arbprov.localhub.submitting.make_task` for each.

        Raises:
            HubConnectionError: No bundled hub answers at the address.
            AuthenticationError: The token is wrong.
            HubError: A task is not valid, or the hub cannot keep the tasks.

        >>> from arbprov.localhub import LocalHub
        >>> with LocalHub() as hub:
        ...     LocalHubClient(hub.address, hub.token).submit([{"action": "forecast", "id": "t1"}])
        ['t1']
        """
        sent = [_encode(task, f"[{index}]") for index, task in enumerate(tasks)]
        ids: list[str] = self._ask("Submit", {"tasks": sent}, _SUBMIT_TIME)["ids"]
        return ids

    def results(self, ids: Sequence[str], timeout: float = 10.0) -> list[Submission]:
        """Return the results of the tasks that have ended; wait for the first of them.

        Args:
            ids: The tasks' ids.
            timeout: Seconds to wait for a result.

        Raises:
            HubConnectionError: No bundled hub answers at the address.
            AuthenticationError: The token is wrong.
            HubError: The hub's store cannot be used now.
        """
        answer = self._ask("Results", {"ids": ids, "timeout": timeout}, timeout)
        return [Submission(**result) for result in answer["results"]]

    def explain(self, id: str) -> str:
        """Return why a task has no result yet, for people; empty if it has ended.

        Args:
            id: The task's id.

        Raises:
            HubConnectionError: No bundled hub answers at the address.
            AuthenticationError: The token is wrong.
            HubError: The hub's store cannot be used now.
        """
        reason: str = self._ask("Explain", {"id": id}, 0.0)["reason"]
        return reason

    def __enter__(self) -> Self:
        self._channel = self._open_channel()
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()
        self._channel = None

    def _open_channel(self) -> Any:
        return grpc.insecure_channel(self._address, options=self._options)

    @contextlib.contextmanager
    def _use_channel(self) -> Iterator[Any]:
        if self._channel is not None:
            yield self._channel
        else:
            with self._open_channel() as channel:
                yield channel

    def _ask(self, method: str, request: Mapping[str, Any], timeout: float) -> Any:
        """Return the answer of a method of the hub, within the timeout and the network's time."""
        body = json.dumps({"token": self._token, **request}).encode()
        with self._use_channel() as channel:
            try:
                answer = channel.unary_unary(f"/arbprov.LocalHub/{method}")(
                    body, timeout=timeout + _NETWORK_TIME
                )
            except grpc.RpcError as error:
                raise self._error(error) from None
        return json.loads(answer)

    def _error(self, error: Any) -> Exception:
        code, details = error.code(), error.details()
        if status := http_status(details or ""):
            return HubConnectionError(
                f"{self._name}: HTTP status {status} without a gRPC status, as a proxy answers"
            )
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return AuthenticationError(f"{self._name} refuses the token: {details}")
        if code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT):
            return HubError(f"{self._name}: {details}")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return HubError(
                f"{self._name} is not a bundled hub, and only a bundled hub accepts "
                f"calls: start it with `arbprov hub` or `arbprov dev`"
            )
        return HubConnectionError(
            f"{self._name}: {code.name}, {details}; does `arbprov dev` or "
            f"`arbprov hub` run at this address?"
        )


def _encode(task: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return a task whose payload and account JSON can hold: dates are texts, as in a result."""
    encoded = dict(task)
    for name in ("payload", "account"):
        if isinstance(task.get(name), Mapping):
            try:
                encoded[name] = to_builtins(task[name])
            except ValueError as error:
                problems = ValidationFailure.from_error(error).prefixed(f"{place}.{name}")
                text = "; ".join(map(str, problems))
                raise HubError(f"the hub can't get this as JSON: {text}") from None
    return encoded
