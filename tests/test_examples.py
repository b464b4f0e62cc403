"""Every example is a provider, and has a test file of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.examples import EXAMPLES, load

from arbprov import ProviderApp


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_every_example_has_actions_and_a_test_of_its_own(name):
    assert f'("{name}"' in (Path(__file__).parent / f"test_example_{name}.py").read_text()
    apps = [one for one in vars(load(name)).values() if isinstance(one, ProviderApp)]
    assert apps
    assert all(app.actions() for app in apps)
