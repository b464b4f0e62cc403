"""A client that calls actions through a bundled hub in another process."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import grpc

from arbprov.errors import (
    AuthenticationError,
    ConfigurationError,
    HubConnectionError,
    HubError,
)
from arbprov.localhub.tickets import Submission
from arbprov.wire.proxies import find_proxy, http_status, is_local
from arbprov.wire.url import parse_hub_url

__all__ = ["LocalHubClient"]

# Seconds for the network, added to the call's own timeout.
_NETWORK_TIME = 5.0
# A result may have any size that the hub accepts from a provider.
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class LocalHubClient:
    """Calls actions through a bundled hub.

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
            HubError: The hub is full, or JSON cannot encode the payload or the account.
        """
        request = {
            "token": self._token,
            "action": action,
            "payload": payload,
            "account": account,
            "provider": provider,
            "timeout": timeout,
        }
        with grpc.insecure_channel(self._address, options=self._options) as channel:
            method = channel.unary_unary("/arbprov.LocalHub/Call")
            try:
                answer = method(json.dumps(request).encode(), timeout=timeout + _NETWORK_TIME)
            except grpc.RpcError as error:
                raise self._error(error) from None
        return Submission(**json.loads(answer))

    def _error(self, error: Any) -> Exception:
        code, details = error.code(), error.details()
        if status := http_status(details or ""):
            return HubConnectionError(
                f"{self._name}: HTTP status {status} without a gRPC status, as a proxy answers"
            )
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return AuthenticationError(f"{self._name} refuses the token: {details}")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return TimeoutError(details)
        if code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT):
            return HubError(f"{self._name}: {details}")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return HubError(
                f"{self._name} is not a bundled one, and only a bundled one accepts "
                f"calls: start it with `arbprov hub` or `arbprov dev`"
            )
        return HubConnectionError(
            f"{self._name}: {code.name}, {details}; does `arbprov dev` or "
            f"`arbprov hub` run at this address?"
        )
