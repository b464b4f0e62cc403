"""What the libraries httpx and httpx2 have in common of sending tokens, without either of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from arbprov.http.tokens import TokenCache

__all__ = ["BearerFlow"]

AccountT = TypeVar("AccountT")


class _Request(Protocol):
    @property
    def headers(self) -> MutableMapping[str, str]: ...
    @property
    def stream(self) -> object: ...


class _Response(Protocol):
    @property
    def status_code(self) -> int: ...


RequestT = TypeVar("RequestT", bound=_Request)


class BearerFlow(Generic[AccountT]):
    """Sends the account's token; after a 401, once more with a new one.

    Args:
        tokens: Has the tokens.
        account: The account.
    """

    # The class of bodies that can be sent again.
    _bytes: ClassVar[type]

    def __init__(self, tokens: TokenCache[AccountT], account: AccountT) -> None:
        self._tokens = tokens
        self._account = account

    def sync_auth_flow(self, request: RequestT) -> Generator[RequestT, _Response, None]:
        """Yield the request once or twice, for a client of plain code."""
        token = self._tokens.get(self._account)
        if self._is_refused(request, token, (yield self._sign(request, token))):
            yield self._sign(request, self._tokens.get(self._account))

    async def async_auth_flow(self, request: RequestT) -> AsyncGenerator[RequestT, _Response]:
        """Yield the request once or twice, for an async client."""
        token = await self._tokens.aget(self._account)
        if self._is_refused(request, token, (yield self._sign(request, token))):
            yield self._sign(request, await self._tokens.aget(self._account))

    def _sign(self, request: RequestT, token: str) -> RequestT:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    def _is_refused(self, request: _Request, token: str, response: _Response) -> bool:
        """Refuse the token after a 401, and return whether the request can be sent again."""
        if response.status_code != HTTPStatus.UNAUTHORIZED:
            return False
        self._tokens.refuse(self._account, token)
        return isinstance(request.stream, self._bytes)
