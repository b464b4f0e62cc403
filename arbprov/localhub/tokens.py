"""The hub's own token, the tokens made for providers and people, and what each allows."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable

from arbprov._utils import TextEnum
from arbprov.localhub.store import Store, StoredToken

__all__ = ["Role", "Tokens"]

# Seconds for which a token made by another hub may still be unknown here.
_REFRESH_INTERVAL = 2.0


class Role(TextEnum):
    """What a token allows: to work as a provider, to change everything, or to read."""

    PROVIDER = "provider"
    ADMIN = "admin"
    READER = "reader"


class Tokens:
    """Checks tokens; the store keeps only the hashes of tokens.

    The hub's own token allows everything, but for the work of providers that have tokens of
    their own.

    Args:
        store: Keeps the hashes.
        own: Returns the hub's own token.
        clock: Returns a time in seconds that never goes back.
    """

    def __init__(
        self, store: Store, own: Callable[[], str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._store = store
        self._own = own
        self._clock = clock
        self._stored: list[StoredToken] = []
        self._read_at: float | None = None

    async def allows_provider(self, provider: str, token: str) -> bool:
        """Tell whether a token allows to work as a provider."""
        stored = await self._read()
        digests = [found.digest for found in stored if found.provider == provider and provider]
        return _matches(token, digests or [_digest(self._own())])

    async def find_role(self, token: str) -> Role | None:
        """Return what a token allows people; None if it is unknown, or a provider's."""
        stored = await self._read()
        if _matches(token, [_digest(self._own())]):
            return Role.ADMIN
        for role in (Role.ADMIN, Role.READER):
            if _matches(token, [found.digest for found in stored if found.role == role]):
                return role
        return None

    async def add(self, name: str, role: Role, provider: str = "") -> str | None:
        """Make a token and return it; None if the name is taken.

        Args:
            name: A name for people.
            role: What the token allows.
            provider: The provider whose token it is; empty for the other roles.
        """
        token = secrets.token_urlsafe(24)
        stored = StoredToken(
            name=name,
            role=role.value,
            provider=provider,
            digest=_digest(token),
            created_at=time.time(),
        )
        self._read_at = None
        return token if await self._store.add_token(stored) else None

    async def remove(self, name: str) -> bool:
        """Remove a token; return False if there is none with this name."""
        self._read_at = None
        return await self._store.remove_token(name)

    async def _read(self) -> list[StoredToken]:
        now = self._clock()
        if self._read_at is None or now - self._read_at >= _REFRESH_INTERVAL:
            self._stored = await self._store.tokens()
            self._read_at = now
        return self._stored


def _digest(token: str) -> str:
    # Tokens are long and random, so a slow hash would protect them no better.
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _matches(token: str, digests: list[str]) -> bool:
    """Tell whether a token has one of the hashes; it takes the same time for each."""
    digest = _digest(token)
    return any([hmac.compare_digest(digest, other) for other in digests])  # noqa: C419
