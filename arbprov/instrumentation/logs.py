"""Showing arbprov's log where the author has set up none."""

from __future__ import annotations

import logging

__all__ = ["ensure_handler"]


def ensure_handler() -> None:
    """Send arbprov's log to stderr from INFO on, unless logging is set up already."""
    logger = logging.getLogger("arbprov")
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)
