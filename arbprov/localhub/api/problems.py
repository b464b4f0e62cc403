"""Refusals, as ``application/problem+json`` (RFC 9457) with arbprov's problems."""

from __future__ import annotations

import http
from collections.abc import Mapping, Sequence

from arbprov._utils import escape_line
from arbprov.errors import Problem
from arbprov.localhub.api.shapes import ProblemsView, ProblemView
from arbprov.payload.validation import suggest_names

__all__ = ["ApiProblem", "invalid", "invalid_value", "view_problem"]

# Characters of a detail; a name in it may have any length.
_MAX_DETAIL = 1_000
# The problems that a detail repeats.
_MAX_REPEATED = 3


class ApiProblem(Exception):
    """Ends a request with a refusal.

    Args:
        status: The HTTP status.
        detail: The problem, and how to fix it.
        problems: Each problem of the request.
        headers: More headers of the response.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        problems: Sequence[Problem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.problems = problems
        self.headers = headers


def invalid(problems: Sequence[Problem], count: int = 0) -> ApiProblem:
    """Return the refusal of a request with problems.

    Args:
        problems: The problems.
        count: How many there are, if more than are listed.
    """
    suggested = suggest_names(problems)
    detail = "; ".join(map(str, suggested[:_MAX_REPEATED]))
    if (left := max(count, len(problems)) - _MAX_REPEATED) > 0:
        detail += f"; and {left:,} more"
    return ApiProblem(422, detail, suggested)


def invalid_value(message: str, path: str = "") -> ApiProblem:
    """Return the refusal of a request with one problem."""
    return invalid([Problem(path, message)])


def view_problem(error: ApiProblem) -> ProblemsView:
    """Return a refusal as the API shows it."""
    return ProblemsView(
        type="about:blank",
        title=http.HTTPStatus(error.status).phrase,
        status=error.status,
        detail=escape_line(error.detail, _MAX_DETAIL),
        problems=[
            ProblemView(path=escape_line(p.path), message=escape_line(p.message, _MAX_DETAIL))
            for p in error.problems
        ],
    )
