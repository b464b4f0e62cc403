"""Files in which processes record their progress, for a test to compare after a kill."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import attrs

from arbprov.task import TaskResult
from arbprov.wire.messages import decode_result

INTERRUPTED = "interrupted, outcome unknown"


class Record:
    """A file of lines, each of which outlives a kill."""

    def __init__(self, name: str) -> None:
        self._file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def add(self, *words: str) -> None:
        os.write(self._file, " ".join(words).encode() + b"\n")


def digest(data: Any) -> str:
    """Return the digest that stands for a result's data in the records."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


class Tail:
    """Counts the lines of a growing file that hold some bytes; reads no part of it twice."""

    def __init__(self, path: Path, wanted: bytes) -> None:
        self._path = path
        self._wanted = wanted
        self._offset = 0
        self._count = 0

    @property
    def count(self) -> int:
        """How many lines hold the bytes by now."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
            whole = content.rfind(b"\n") + 1
            self._offset += whole
            self._count += content[:whole].count(self._wanted)
        return self._count


@attrs.frozen
class Account:
    """A test's run by the hub's log and the provider's records.

    Args:
        handed: How many tasks the hub has handed out.
        received: The tasks that have reached the provider.
        begun: How often each was about to run.
        returned: The digests of the values that its handler returned, by task.
        sent: All results, by task, byte for byte.
    """

    handed: int
    received: set[str]
    begun: Counter[str]
    returned: dict[str, list[str]]
    sent: dict[str, list[bytes]]

    @classmethod
    def of(cls, folder: Path) -> Account:
        log = [json.loads(line) for line in _lines(folder / "log")]
        returned, sent = defaultdict(list), defaultdict(list)
        for line in _lines(folder / "returned"):
            name, one = line.split()
            returned[name].append(one)
        for record in log:
            if "result" in record:
                message = base64.b64decode(record["result"])
                sent[decode_result(message).id].append(message)
        return cls(
            handed=sum("handed" in record for record in log),
            received=set(_lines(folder / "received")),
            begun=Counter(_lines(folder / "begun")),
            returned=returned,
            sent=sent,
        )

    @property
    def lost(self) -> int:
        """How many tasks were handed out, and have never reached the provider."""
        return self.handed - len(self.received)

    @property
    def repeated(self) -> int:
        """How many results came more than once."""
        return sum(len(messages) > 1 for messages in self.sent.values())

    def results(self) -> dict[str, TaskResult]:
        """Return the first result of each task."""
        return {name: decode_result(messages[0]) for name, messages in self.sent.items()}

    @property
    def interrupted(self) -> set[str]:
        """The tasks that were reported as interrupted, with an unknown outcome."""
        results = self.results().items()
        return {name for name, result in results if result.message == INTERRUPTED}

    def complaints(self, owed: set[str] | None = None) -> list[str]:
        """Return a line for each kind of mistake in the records.

        Args:
            owed: The tasks that need a result; all that were received, if not given.
        """
        results, interrupted = self.results(), self.interrupted
        wrong = {
            "run twice": [name for name, times in self.begun.items() if times > 1],
            "without a result": sorted((owed or self.received) - set(results)),
            "with a result, and never received": sorted(set(results) - self.received),
            "sent in two forms": [name for name, sent in self.sent.items() if len(set(sent)) > 1],
            "with another result than was returned": [
                name
                for name, result in results.items()
                if name not in interrupted and [digest(result.data)] != self.returned[name]
            ],
        }
        return [f"{what}: {len(ids)}, as {ids[:5]}" for what, ids in wrong.items() if ids]


def _lines(path: Path) -> list[str]:
    content = path.read_text() if path.exists() else ""
    return content[: content.rfind("\n") + 1].splitlines()
