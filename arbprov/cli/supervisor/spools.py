"""Where the workers of a provider have their spools, and what earlier ones have left there."""

from __future__ import annotations

import glob
import logging
from collections.abc import Iterator
from pathlib import Path

from arbprov.errors import ConfigurationError

__all__ = ["spools_at", "warn_of_left", "worker_spool"]

logger = logging.getLogger("arbprov")


def worker_spool(path: str, number: int) -> str:
    """Return where one of several workers has its spool, if that of the provider is at `path`."""
    return f"{path}.{number}"


def spools_at(path: Path) -> list[Path]:
    """Return the spool at `path` and those of workers beside it, as far as they are there."""
    beside = {
        int(number): one
        for one in path.parent.glob(f"{glob.escape(path.name)}.*")
        if (number := one.name.removeprefix(f"{path.name}.")).isdecimal()
    }
    found = [path, *(beside[number] for number in sorted(beside))]
    return [one for one in found if one.is_file()]


def warn_of_left(spool: str, count: int) -> None:
    """Warn of what is in spools that no worker of this start has.

    Args:
        spool: Where the provider's spool is; empty if it has none.
        count: How many workers there are.
    """
    if not spool:
        return
    path = Path(spool).expanduser().absolute()
    numbers = range(1, count + 1)
    used = [Path(worker_spool(str(path), n)) for n in numbers] if count > 1 else [path]
    for one in spools_at(path):
        if one not in used and (left := sum(1 for _ in _open_tasks(one))):
            workers = one.name.removeprefix(path.name).lstrip(".") or "1"
            logger.warning(
                "%d tasks of an earlier start are in the spool at %s, and no worker of this one "
                "sends their results; start once with --workers %s",
                left,
                one,
                workers,
            )


def _open_tasks(path: Path) -> Iterator[str]:
    from arbprov.outbox.sqlite import read_spool

    try:
        yield from (entry.id for entry in read_spool(path) if entry.state != "dead")
    except ConfigurationError:  # another program's file
        return
