"""The spools of a provider's workers, and spools that an earlier start left behind."""

from __future__ import annotations

import glob
import logging
from pathlib import Path

from arbprov._utils import format_count
from arbprov.errors import ConfigurationError

__all__ = ["find_spools", "warn_of_orphans", "worker_spool"]

logger = logging.getLogger("arbprov")


def worker_spool(path: str, number: int) -> str:
    """Return the path of a worker's spool, for a provider with a spool at `path`.

    >>> worker_spool("/var/lib/weather/spool", 2)
    '/var/lib/weather/spool.2'
    """
    return f"{path}.{number}"


def find_spools(path: Path) -> list[Path]:
    """Return the spool at `path` and the spools of workers beside it that exist."""
    beside = {
        int(number): spool
        for spool in path.parent.glob(f"{glob.escape(path.name)}.*")
        if (number := spool.name.removeprefix(f"{path.name}.")).isdecimal()
    }
    found = [path, *(beside[number] for number in sorted(beside))]
    return [spool for spool in found if spool.is_file()]


def warn_of_orphans(spool: str, count: int) -> None:
    """Warn of tasks in spools that no worker of this start uses.

    Args:
        spool: The path of the provider's spool; empty if it has none.
        count: The number of workers.
    """
    if not spool:
        return
    from arbprov.outbox.sqlite import read_spool

    path = Path(spool).expanduser().absolute()
    numbers = range(1, count + 1)
    used = [Path(worker_spool(str(path), n)) for n in numbers] if count > 1 else [path]
    for orphan in find_spools(path):
        if orphan in used:
            continue
        try:
            tasks = sum(entry.state != "dead" for entry in read_spool(orphan))
        except ConfigurationError:  # another program's file
            continue
        if tasks:
            logger.warning(
                "the spool at %s has %s of an earlier start, and no worker of this start "
                "sends the results; run once with --workers %s",
                orphan,
                format_count(tasks, "task"),
                orphan.name.removeprefix(path.name).lstrip(".") or "1",
            )
