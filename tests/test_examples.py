"""Every example is a provider, has a test file of its own, and is listed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.examples import EXAMPLES, load

from arbprov import ProviderApp

NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_every_example_has_actions(name):
    apps = [one for one in vars(load(name)).values() if isinstance(one, ProviderApp)]
    assert apps
    assert all(app.actions() for app in apps)


@pytest.mark.parametrize("name", NAMES)
def test_every_example_has_a_test_file_of_its_own(name):
    assert f'"{name}"' in (Path(__file__).parent / f"test_example_{name}.py").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_listed(name):
    assert f"[{name}]({name}.py)" in (EXAMPLES / "README.md").read_text()
