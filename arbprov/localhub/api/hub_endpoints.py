"""The endpoints of the hub itself: counts, providers, limits, pauses, tokens, health."""

from __future__ import annotations

import time
from collections import Counter

from starlette.requests import Request
from starlette.responses import Response

from arbprov.localhub.api.answers import answer
from arbprov.localhub.api.hub import ApiHub
from arbprov.localhub.api.parsing import read_body, read_path, structure
from arbprov.localhub.api.problems import ApiProblem, invalid_value
from arbprov.localhub.api.report_views import (
    view_actions,
    view_providers,
    view_reported_limits,
)
from arbprov.localhub.api.shapes import (
    CountsView,
    HealthView,
    LimitsView,
    MadeToken,
    PauseBody,
    PausesView,
    TokenBody,
    TokensView,
)
from arbprov.localhub.api.views import view_pause, view_scope, view_token
from arbprov.localhub.tasks import Pause, PauseKind, State
from arbprov.localhub.tokens import Role

__all__ = ["HubEndpoints"]


class HubEndpoints:
    """The endpoints of the hub itself.

    Args:
        hub: The hub.
    """

    def __init__(self, hub: ApiHub) -> None:
        self._hub = hub
        self._queue = hub.queue
        self._store = hub.queue.store

    async def counts(self, _: Request) -> Response:
        """Return the number of tasks by action and state, and how many ended lately."""
        counts = await self._store.counts()
        actions = {
            action: {State(state).value: count for state, count in found.items()}
            for action, found in counts.items()
        }
        states = Counter({state.value: 0 for state in State})
        for found in actions.values():
            states.update(found)
        rates = self._hub.rates.view()
        return answer(CountsView(actions=actions, states=dict(states), rates=rates))

    async def limits(self, _: Request) -> Response:
        """Return what limits hold back, and how the limits of providers stand."""
        held = [*map(view_scope, await self._store.held())]
        reported = view_reported_limits(self._hub.reports, time.time())
        return answer(LimitsView(limits=held, reported=reported))

    async def providers(self, _: Request) -> Response:
        """Return the providers and their processes."""
        return answer(view_providers(self._hub.reports, time.time()))

    async def actions(self, _: Request) -> Response:
        """Return the actions of the providers that report."""
        return answer(view_actions(self._hub.reports))

    async def pauses(self, _: Request) -> Response:
        """Return the pauses."""
        return answer(PausesView(pauses=[*map(view_pause, await self._store.pauses())]))

    async def pause(self, request: Request) -> Response:
        """Hand out no task of an action or account, or to a provider, until it is resumed."""
        body = structure(await read_body(request), PauseBody)
        await self._store.pause(Pause(body.kind, body.name))
        self._queue.wake()
        return await self.pauses(request)

    async def resume(self, request: Request) -> Response:
        """End a pause."""
        kind, name = read_path(request, "kind"), read_path(request, "name")
        if kind not in [member.value for member in PauseKind]:
            raise ApiProblem(404, "an action, a provider or an account can be paused")
        if "\0" not in name:
            await self._store.resume(Pause(PauseKind(kind), name))
            self._queue.wake()
        return Response(status_code=204)

    async def tokens(self, _: Request) -> Response:
        """Return the tokens that were made."""
        return answer(TokensView(tokens=[*map(view_token, await self._store.tokens())]))

    async def make_token(self, request: Request) -> Response:
        """Make a token, and show it this once."""
        body = structure(await read_body(request), TokenBody)
        if (body.role is Role.PROVIDER) != bool(body.provider):
            raise invalid_value(
                "name the provider with the role provider, and only then", "provider"
            )
        token = await self._hub.tokens.add(body.name, body.role, body.provider)
        if token is None:
            raise ApiProblem(409, "there is a token with this name; choose another name")
        made = MadeToken(name=body.name, role=body.role, provider=body.provider, token=token)
        return answer(made, 201)

    async def remove_token(self, request: Request) -> Response:
        """Remove a token."""
        name = read_path(request, "name")
        if "\0" in name or not await self._hub.tokens.remove(name):
            raise ApiProblem(404, "there is no token with this name")
        return Response(status_code=204)

    async def health(self, _: Request) -> Response:
        """Return that the hub runs."""
        return answer(HealthView())
