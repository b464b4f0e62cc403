"""A call that its limits refuse to charge gives back the process that was started for it."""

from __future__ import annotations

import asyncio
import types

import pytest

from arbprov.limits import Decision
from arbprov.limits.stores.base import StoreError
from arbprov.worker.admission import Admission


def test_a_charge_that_fails_releases_the_process_of_its_call():
    released = []

    async def make_ready(call):
        return None

    def decide(call):
        raise StoreError("away")

    async def main():
        limiter = types.SimpleNamespace(peek=lambda limits, call: Decision())
        dispatcher = types.SimpleNamespace(limiter=limiter, decide=decide)
        executor = types.SimpleNamespace(make_ready=make_ready, release=released.append)
        stopping = asyncio.get_running_loop().create_future()
        limits = types.SimpleNamespace(blocks=False)
        route = types.SimpleNamespace(pickled=b"handler", limits=limits)
        call = types.SimpleNamespace(route=route, error=None, seen_by_limits=None)
        with pytest.raises(StoreError):
            await Admission(dispatcher, None, executor, 1, stopping).decide(call)
        return call

    assert released == [asyncio.run(main())]
