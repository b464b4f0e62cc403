"""pytest fixtures for providers; pytest finds them wherever arbprov is installed.

Define the fixture `provider_app` in ``conftest.py`` and return your app from it; then use
`provider_client` or `provider_hub` in your tests:

    def test_forecast(provider_client):
        assert provider_client.call("forecast", {"city": "Paris"}).status == "success"
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
    """Return the app under test; your project must define this fixture."""
    raise pytest.UsageError(
        "arbprov's fixtures need your app; add this to conftest.py:\n\n"
        "    @pytest.fixture\n"
        "    def provider_app():\n"
        "        from your_module import app\n"
        "        return app"
    )


@pytest.fixture
def provider_client(provider_app: ProviderApp) -> Iterator[TestClient]:
    """Yield a test client; the app's startup and shutdown hooks run around the test."""
    with provider_app.test_client() as client:
        yield client


@pytest.fixture
def provider_hub(provider_app: ProviderApp) -> Iterator[LocalHub]:
    """Yield a bundled hub, over real gRPC, with the app running for it in a thread."""
    from arbprov.localhub import LocalHub
    from arbprov.testing import serving

    with LocalHub(hold=0.1) as hub, serving(provider_app, hub):
        yield hub
