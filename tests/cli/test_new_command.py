"""`arbprov new`."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest


def files_of(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_a_provider_is_made_with_its_tests(arbprov, folder):
    made = arbprov("new", "my-provider")
    assert files_of(folder / "my-provider") == [
        ".dockerignore",
        ".gitignore",
        "Dockerfile",
        "README.md",
        "provider.py",
        "pyproject.toml",
        "tests/test_provider.py",
    ]
    assert len(made.stdout.splitlines()) == 7
    assert "cd my-provider" in made.stderr


def test_its_files_have_its_name_and_no_placeholder(arbprov, folder):
    arbprov("new", "my-provider")
    texts = [path.read_text() for path in (folder / "my-provider").rglob("*") if path.is_file()]
    assert not [text for text in texts if "{{" in text]
    assert 'app = ProviderApp("my-provider")' in (folder / "my-provider/provider.py").read_text()


def test_its_tests_pass_as_they_are(arbprov, folder):
    arbprov("new", "deep/my-provider")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"],
        cwd=folder / "deep/my-provider",
        env=os.environ | {"PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "4 passed" in run.stdout, run.stdout + run.stderr


@pytest.mark.parametrize("name", ["1st", "my provider", "a--b", "-", "été", "a.b", ".."])
def test_a_name_that_no_package_can_have_is_refused(arbprov, folder, name):
    made = arbprov("new", "--", name)
    assert made.exit_code == 2
    assert "use letters and digits, as in my-provider" in made.stderr
    assert files_of(folder) == ["typed.py"]


@pytest.mark.parametrize("name", ["typed", "full"])
def test_nothing_is_overwritten(arbprov, folder, name):
    (folder / "typed.py").rename(folder / "typed")
    (folder / "full").mkdir()
    (folder / "full/notes").touch()
    made = arbprov("new", name)
    assert (made.exit_code, files_of(folder)) == (2, ["full/notes", "typed"])
    assert f"{name} exists already" in made.stderr


def test_an_empty_folder_is_filled(arbprov, folder):
    (folder / "mine").mkdir()
    assert arbprov("new", "mine").exit_code == 0


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is new in 3.11")
def test_its_dockerfile_installs_the_dependencies_of_its_pyproject(arbprov, folder):
    arbprov("new", "my-provider")
    made = folder / "my-provider"
    (code,) = re.findall(
        r'^RUN python -c "(.*)" >', (made / "Dockerfile").read_text(), re.MULTILINE
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=made, capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines() == ["arbprov @ git+https://ADDRESS", "attrs"]
