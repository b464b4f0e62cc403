"""All rows, in the order in which they are printed."""

from __future__ import annotations

from benchmarks.rows import idle, memory, starting, throughput
from benchmarks.running import Row

__all__ = ["ROWS"]

ROWS: dict[str, Row] = {
    row.name: row for row in (*throughput.ROWS, *idle.ROWS, *memory.ROWS, *starting.ROWS)
}
