"""Providers: their processes, versions, slots, and when they polled last."""

from __future__ import annotations

import attrs
from starlette.requests import Request
from starlette.responses import Response

from arbprov.localhub.page.done import describe_done
from arbprov.localhub.page.hub import PageHub
from arbprov.localhub.page.rendering import make_version
from arbprov.localhub.page.waits import MAX_SILENCE
from arbprov.localhub.reports import ProviderReport
from arbprov.localhub.tasks import PauseKind

__all__ = ["ProviderPages"]

# Seconds for which a page shows the same times of polls, which change all the time.
_STEP = 5


@attrs.frozen(kw_only=True)
class ProviderRow:
    """A provider.

    Attributes:
        name: Its name.
        polled_ago: Seconds since its last poll; None if this hub has seen none.
        processes: The reports of its processes.
        is_paused: Whether it gets no tasks.
    """

    name: str
    polled_ago: float | None
    processes: list[ProviderReport]
    is_paused: bool

    @property
    def is_silent(self) -> bool:
        """Whether it has polled, but not lately."""
        return self.polled_ago is not None and self.polled_ago >= MAX_SILENCE


class ProviderPages:
    """The page of providers.

    Args:
        hub: The hub.
    """

    def __init__(self, hub: PageHub) -> None:
        self._hub = hub

    async def show(self, request: Request) -> Response:
        """Show all providers that have polled or reported since the hub started."""
        polls = self._hub.reports.last_polls()
        reports = [report for report, _ in self._hub.reports.latest()]
        paused = {
            pause.name
            for pause in await self._hub.store.pauses()
            if pause.kind is PauseKind.PROVIDER
        }
        rows = [
            ProviderRow(
                name=name,
                polled_ago=polls.get(name),
                processes=sorted(
                    (report for report in reports if report.provider == name),
                    key=lambda report: report.process,
                ),
                is_paused=name in paused,
            )
            for name in sorted({*polls, *(report.provider for report in reports), *paused})
        ]
        return self._hub.render.page(
            request,
            "providers",
            rows=rows,
            now=self._hub.now(),
            done=describe_done(request.query_params.get("did", "")),
            version=make_version(
                [(row.name, row.processes, row.is_paused, row.is_silent) for row in rows],
                int(self._hub.now() / _STEP),
            ),
        )
