"""pytest fixtures for providers; they are there as soon as arbprov is installed.

Define `provider_app` in a ``conftest.py``, as a fixture that returns your app, and take
`provider_client` or `provider_hub` in your tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from arbprov.app import ProviderApp
    from arbprov.localhub import LocalHub
    from arbprov.testing import TestClient


@pytest.fixture
def provider_app() -> ProviderApp:
    """Return the app under test; to be defined by the project itself."""
    raise pytest.UsageError(
        "arbprov's fixtures need to know your app; put this into conftest.py:\n\n"
        "    @pytest.fixture\n"
        "    def provider_app():\n"
        "        from your_module import app\n"
        "        return app"
    )


@pytest.fixture
def provider_client(provider_app: ProviderApp) -> Iterator[TestClient]:
    """Yield a test client, with the app's startup and shutdown hooks run around the test."""
    with provider_app.test_client() as client:
        yield client


@pytest.fixture
def provider_hub(provider_app: ProviderApp) -> Iterator[LocalHub]:
    """Yield a bundled hub, over real gRPC, that the app works for in a thread."""
    from arbprov.localhub import LocalHub
    from arbprov.testing import serving

    with LocalHub(hold=0.1) as hub, serving(provider_app, hub):
        yield hub
