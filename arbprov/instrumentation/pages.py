"""The pages that a provider serves: the answers to probes, and the metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from arbprov.instrumentation.health import Answer, WorkerHealth, livez, readyz, startupz
from arbprov.instrumentation.server import TEXT, Page

__all__ = ["make_pages"]

_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_NO_METRICS = "there are no metrics; the log says why, or: pip install 'arbprov[metrics]'\n"


def make_pages(
    read: Callable[[], Sequence[WorkerHealth]], render: Callable[[], bytes] | None
) -> dict[str, Page]:
    r"""Return the pages by path.

    Args:
        read: Returns what was last seen of the workers.
        render: Returns the metrics in Prometheus's format; None if there are none.

    >>> pages = make_pages(lambda: [WorkerHealth("", True, "", 0.0)], None)
    >>> pages["/readyz"]()
    (200, 'text/plain; charset=utf-8', b'ok\n')
    >>> pages["/metrics"]()[0]
    501
    """

    def page(decide: Callable[[Sequence[WorkerHealth]], Answer]) -> Page:
        def answer() -> tuple[int, str, bytes]:
            status, text = decide(read())
            return status, TEXT, f"{text}\n".encode()

        return answer

    def metrics() -> tuple[int, str, bytes]:
        if render is None:
            return 501, TEXT, _NO_METRICS.encode()
        return 200, _METRICS, render()

    return {
        "/livez": page(livez),
        "/readyz": page(readyz),
        "/startupz": page(startupz),
        "/metrics": metrics,
    }
