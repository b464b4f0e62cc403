"""Calling an action through a bundled hub that runs in another process."""

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
from arbprov.localhub.backlog import Submission
from arbprov.wire.url import parse_hub_url

__all__ = ["LocalHubClient"]

# For the way there and back, beyond what the call itself may take.
_TRAVEL = 5.0
# A result may be as large as the hub takes it from a provider.
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class LocalHubClient:
    """Puts tasks into a bundled hub and waits for their results.

    Args:
        address: Where the hub listens.
        token: The hub's token.

    Raises:
        ConfigurationError: No bundled hub can be there.
    """

    def __init__(self, address: str, token: str) -> None:
        try:
            endpoint = parse_hub_url(address)
        except ValueError as error:
            raise ConfigurationError(f"the hub's address {address!r} {error}") from None
        if endpoint.tls:
            raise ConfigurationError(
                f"the hub's address {address!r} asks for TLS, which a bundled hub does not speak"
            )
        self._address = endpoint.target
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
            action: Which action to run.
            payload: Its payload.
            account: Its account.
            provider: Who is to run it; anybody, if not given.
            timeout: Seconds to wait for the result.

        Raises:
            HubConnectionError: There is no bundled hub.
            AuthenticationError: The token is wrong.
            TimeoutError: No result came in time.
            HubError: The hub has too much to do, or JSON can't carry the payload or the account.
        """
        request = {
            "token": self._token,
            "action": action,
            "payload": payload,
            "account": account,
            "provider": provider,
            "timeout": timeout,
        }
        with grpc.insecure_channel(self._address, options=_OPTIONS) as channel:
            method = channel.unary_unary("/arbprov.LocalHub/Call")
            try:
                answer = method(json.dumps(request).encode(), timeout=timeout + _TRAVEL)
            except grpc.RpcError as error:
                raise self._error(error) from None
        return Submission(**json.loads(answer))

    def _error(self, error: Any) -> Exception:
        code, details = error.code(), error.details()
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return AuthenticationError(f"the hub at {self._address} refuses the token: {details}")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return TimeoutError(details)
        if code in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT):
            return HubError(f"the hub at {self._address}: {details}")
        if code is grpc.StatusCode.UNIMPLEMENTED:
            return HubError(
                f"the hub at {self._address} is not a bundled one (`arbprov hub`), and no other "
                f"lets tasks be put in this way"
            )
        return HubConnectionError(
            f"the hub at {self._address}: {code.name}, {details}; is `arbprov dev` or "
            f"`arbprov hub` running, at this address?"
        )
