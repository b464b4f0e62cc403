"""The exit code of each kind of error."""

from __future__ import annotations

import click

__all__ = ["BAD_CONFIGURATION", "FINAL", "HUB_NEVER_REACHED", "find_exit_code"]

# Named as in sysexits.h. Any other error is 1.
HUB_NEVER_REACHED = 69  # EX_UNAVAILABLE
_TOKEN_REFUSED = 77  # EX_NOPERM
BAD_CONFIGURATION = 78  # EX_CONFIG
# The codes of errors that another start would run into again.
FINAL = {click.UsageError.exit_code, _TOKEN_REFUSED, BAD_CONFIGURATION}


def find_exit_code(error: Exception) -> int | None:
    """Return the exit code of an error of arbprov; None for any other error."""
    # Slow to import, and most commands end well.
    from arbprov.errors import (
        AuthenticationError,
        ConfigurationError,
        HubConnectionError,
        ProviderError,
    )

    if not isinstance(error, ProviderError):
        return None
    codes: dict[type[Exception], int] = {
        HubConnectionError: HUB_NEVER_REACHED,
        AuthenticationError: _TOKEN_REFUSED,
        ConfigurationError: BAD_CONFIGURATION,
    }
    return next((code for kind, code in codes.items() if isinstance(error, kind)), 1)
