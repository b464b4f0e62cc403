"""A file in which a worker keeps the counts of an outage, for the worker that replaces it."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs

from arbprov.limits.stores.base import BucketKey, Charge
from arbprov.limits.stores.memory import BucketState

__all__ = ["OutageFile", "OutageRecord", "OutageStart"]

logger = logging.getLogger("arbprov")

# A file is rewritten when it is larger than this in bytes, and than a multiple of its first record.
_MIN_SIZE_TO_REWRITE = 1 << 20
_GROWTH = 4


@attrs.frozen
class OutageStart:
    """The state of a worker without its buckets; times are those of the machine's monotonic clock.

    Args:
        started_at: The outage's start.
        peers: The number of processes that share the limits.
        names: The names of the processes that may have calls to report.
        generation: The store's name for the data that the worker knows.
        last_seen: The units that all processes had used of each bucket, and until when.
        cooldowns: The charges, ends and probe timeouts, in seconds, of cooldowns.
    """

    started_at: float
    peers: int
    names: Sequence[str]
    generation: str
    last_seen: Mapping[BucketKey, tuple[int, float]]
    cooldowns: Sequence[tuple[Charge, float, float]]


@attrs.frozen
class OutageRecord:
    """The states of buckets; a later record's replace an earlier one's.

    Args:
        own: The calls of the worker.
        view: The usage of all processes together, as the worker estimates it.
        unreported: The worker's calls that the store does not know.
        start: In the first record.
    """

    own: Sequence[BucketState]
    view: Sequence[BucketState]
    unreported: Sequence[BucketState]
    start: OutageStart | None = None


class OutageFile:
    """Keeps records beyond the end of a process that is killed.

    Args:
        path: A path in a folder that only this user can write to, since the file is unpickled.
        others: The paths of the other workers' files.
    """

    def __init__(self, path: Path, others: Sequence[Path] = ()) -> None:
        self._path = path
        self._others = others
        self._has_start = False
        self._rewrites_beyond = 0
        self._has_warned = False

    def load(self) -> list[OutageRecord]:
        """Return the records that a worker has left; none if it ended outside of an outage."""
        records: list[OutageRecord] = []
        if not self._path.exists():
            return records
        with self._path.open("rb") as file, contextlib.suppress(EOFError, pickle.UnpicklingError):
            while True:
                records.append(pickle.load(file))  # noqa: S301
        return records

    def last_seen_by_others(self) -> dict[BucketKey, tuple[int, float]]:
        """Return the most units of each bucket that a worker had seen used, and until when."""
        most: dict[BucketKey, tuple[int, float]] = {}
        for path in self._others:
            for start in [record.start for record in OutageFile(path).load() if record.start]:
                for bucket, seen in start.last_seen.items():
                    most[bucket] = max(seen, most.get(bucket, seen))
        return most

    def rewrite(self, record: OutageRecord) -> None:
        """Replace all records by one that has a start."""
        new = self._path.with_name(f"{self._path.name}.new")
        data = pickle.dumps(record)
        try:
            new.write_bytes(data)
            os.replace(new, self._path)
        except OSError as error:
            self._give_up(error)
            return
        self._has_start = True
        self._rewrites_beyond = max(_MIN_SIZE_TO_REWRITE, _GROWTH * len(data))

    def append(self, record: OutageRecord) -> bool:
        """Add a record; return whether the file has grown so much that it is to be rewritten."""
        if not self._has_start:
            return False
        try:
            with self._path.open("ab") as file:
                file.write(pickle.dumps(record))
                return file.tell() > self._rewrites_beyond
        except OSError as error:
            self._give_up(error)
            return False

    def remove(self) -> None:
        """Forget all records, because the outage is over."""
        self._has_start = False
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _give_up(self, error: OSError) -> None:
        # A record after one that is not whole would not be read.
        self._has_start = False
        if not self._has_warned:
            self._has_warned = True
            logger.warning(
                "%s can't be written, so a worker that replaces this one while the limits' store "
                "is away does not know all of its calls: %s",
                self._path,
                error,
            )
