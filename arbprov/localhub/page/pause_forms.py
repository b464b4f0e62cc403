"""The forms that pause an action, an account or a provider, and resume it."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from arbprov.localhub.api.problems import ApiProblem
from arbprov.localhub.page.hub import PageHub, go_to
from arbprov.localhub.page.requests import Form, field, read_form, safe_target
from arbprov.localhub.tasks import Pause, PauseKind

__all__ = ["PauseForms"]

_MAX_NAME = 200


class PauseForms:
    """Pauses and resumes.

    Args:
        hub: The hub.
    """

    def __init__(self, hub: PageHub) -> None:
        self._hub = hub

    async def pause(self, request: Request) -> Response:
        """Hand out no task of what the form names, until it is resumed."""
        form = await read_form(request, 2**16)
        await self._hub.store.pause(_read_pause(form))
        self._hub.queue.wake()
        return _go_back(form, "paused")

    async def resume(self, request: Request) -> Response:
        """End a pause."""
        form = await read_form(request, 2**16)
        await self._hub.store.resume(_read_pause(form))
        self._hub.queue.wake()
        return _go_back(form, "resumed")


def _read_pause(form: Form) -> Pause:
    kind, name = field(form, "kind"), field(form, "name")
    if kind not in [member.value for member in PauseKind]:
        raise ApiProblem(422, "an action, a provider or an account can be paused")
    if not name or "\0" in name or len(name.encode(errors="replace")) > _MAX_NAME:
        raise ApiProblem(422, f"name what to pause, in at most {_MAX_NAME} bytes")
    return Pause(PauseKind(kind), name)


def _go_back(form: Form, did: str) -> Response:
    target = safe_target(field(form, "back"), "/limits")
    path, _, query = target.partition("?")
    kept = [pair for pair in query.split("&") if pair and not pair.startswith("did=")]
    return go_to(f"{path}?{'&'.join([*kept, f'did={did}'])}")
