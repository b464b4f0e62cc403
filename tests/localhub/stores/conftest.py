"""A bench of each kind of store."""

from __future__ import annotations

import pytest
from support.task_stores import STORES


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture(params=STORES)
async def bench(request, tmp_path, anyio_backend):
    bench = await STORES[request.param](tmp_path)
    yield bench
    await bench.store.close()


@pytest.fixture
def store(bench):
    return bench.store
