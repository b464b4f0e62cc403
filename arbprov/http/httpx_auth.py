"""The ``auth=`` of httpx that sends the token of an account; see `TokenCache.httpx_auth`."""

from __future__ import annotations

from typing import TypeVar

import httpx

from arbprov.http.bearer import BearerFlow

__all__ = ["TokenAuth"]

AccountT = TypeVar("AccountT")


class TokenAuth(BearerFlow[AccountT], httpx.Auth):
    """Sends the account's token; after a 401, once more with a new one."""

    _bytes = httpx.ByteStream
