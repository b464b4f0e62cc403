"""The ``auth=`` of httpx2 that sends the token of an account; see `TokenCache.httpx2_auth`."""

from __future__ import annotations

from typing import TypeVar

import httpx2

from arbprov.http.bearer import BearerFlow

__all__ = ["TokenAuth"]

AccountT = TypeVar("AccountT")


class TokenAuth(BearerFlow[AccountT], httpx2.Auth):
    """Sends the account's token; after a 401, once more with a new one."""

    _bytes = httpx2.ByteStream
