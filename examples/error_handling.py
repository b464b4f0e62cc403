"""How a task can end: with data, with a status that you choose, or with an error.

arbprov dev examples/error_handling.py --tasks examples/error_handling.jsonl
"""

import asyncio
import math
import statistics
import sys
from typing import Any

import attrs

from arbprov import (
    HubError,
    InvalidPayloadError,
    ProviderApp,
    ProviderResponse,
    TaskContext,
    TaskError,
)
from arbprov.errors import Problem

app = ProviderApp("numbers")


# A handler chooses the status: success, warning, or error.


@attrs.frozen
class Options:
    strict: bool = False


@app.action
def process_data(data: list[str], options: Options = Options()) -> ProviderResponse:
    """Add up the rows that are whole numbers, and list the other rows."""
    total, problems = 0, []
    for row, text in enumerate(data):
        try:
            total += int(text)
        except ValueError:
            problems.append(Problem(f"data[{row}]", "is not a whole number"))
    if problems and options.strict:
        # The result lists every problem, as for a payload that does not fit.
        raise InvalidPayloadError(problems)
    done = {"processed": len(data) - len(problems), "total": total, "problems": problems}
    if not problems:
        return ProviderResponse("success", data=done)
    if len(problems) == len(data):
        return ProviderResponse("error", message="No row is a whole number", data=done)
    return ProviderResponse("warning", message="Some rows are left out", data=done)


# A TaskError is for the caller: its text is the result, and it is not logged as a bug.


class NoRealRootError(TaskError):
    """The number is negative."""


@app.action
def square_root(number: float) -> dict[str, Any]:
    """Take a square root."""
    if number < 0:
        raise NoRealRootError(f"{number:g} has no real square root")
    return {"root": math.sqrt(number)}


# Any other exception is an error too, with its text and type; its traceback is only logged.


@app.action
def ratio(part: float, whole: float) -> dict[str, Any]:
    """Divide, with an unexpected error for a zero."""
    return {"ratio": part / whole}


# An error handler answers for a class of errors, in all actions of the app.


@app.action
def average(numbers: list[float]) -> dict[str, Any]:
    """Average some numbers; there must be at least one."""
    return {"average": statistics.mean(numbers)}


@app.errorhandler(statistics.StatisticsError)
def no_statistics(error: statistics.StatisticsError, ctx: TaskContext) -> ProviderResponse:
    ctx.logger.info("nothing to work on: %s", error)
    return ProviderResponse("warning", message="There are no numbers", data={"average": None})


# A handler that runs too long is cancelled, and its task ends as an error.


@app.action(timeout=0.2)
async def count_slowly(to: int) -> dict[str, Any]:
    """Count, with a second for each number, and run out of time."""
    for _ in range(to):
        await asyncio.sleep(1)
    return {"counted": to}


if __name__ == "__main__":
    try:
        app.run()
    except HubError as error:  # a HubConnectionError, or an AuthenticationError
        sys.exit(str(error))
