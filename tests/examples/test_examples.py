"""Every example is a provider, has a test file of its own, and is listed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.examples import EXAMPLES, load, load_part

from arbprov import ProviderApp

# By name, the file that it begins in.
FILES = {path.stem: path.name for path in sorted(EXAMPLES.glob("*.py"))}
FILES |= {path.parent.name: f"{path.parent.name}/app.py" for path in EXAMPLES.glob("*/app.py")}


def module_name(file):
    return file.removesuffix(".py").replace("/", ".")


@pytest.mark.parametrize("file", FILES.values())
def test_every_example_has_actions(file):
    module = load_part(module_name(file)) if "/" in file else load(module_name(file))
    apps = [one for one in vars(module).values() if isinstance(one, ProviderApp)]
    assert apps
    assert all(app.actions() for app in apps)


@pytest.mark.parametrize(("name", "file"), FILES.items())
def test_every_example_has_its_own_test_file(name, file):
    test = Path(__file__).parent / f"test_example_{name}.py"
    assert f'"{module_name(file)}"' in test.read_text()


@pytest.mark.parametrize(("name", "file"), FILES.items())
def test_every_example_is_listed(name, file):
    assert f"[{name}]({file})" in (EXAMPLES / "README.md").read_text()
