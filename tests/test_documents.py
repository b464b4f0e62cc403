"""What the documents promise beyond their snippets, which run by themselves."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner

from arbprov import compat
from arbprov.cli import main
from arbprov.config import Config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SHELL = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)


def test_the_first_command_installs_and_runs_the_quickstart():
    assert SHELL[0].strip().split(" && ") == [
        "python3 -m venv .venv",
        ".venv/bin/pip install -q .",
        ".venv/bin/arbprov dev examples/quickstart.py --tasks examples/quickstart.jsonl",
    ]


def test_ci_runs_the_second_command_as_it_stands():
    pattern = re.search(r"grep -x '(.*)' README.md", (ROOT / ".ci/run").read_text())
    assert re.fullmatch(pattern[1], SHELL[1].strip())


def commands():
    for block in SHELL:
        for line in block.splitlines():
            if match := re.search(r"(?:^|/)arbprov (\w+)([^#]*)", line):
                yield match[1], re.findall(r"--[a-z-]+", match[2])


@pytest.mark.parametrize(("command", "options"), list(commands()))
def test_a_command_of_the_readme_exists_with_its_options(command, options):
    result = CliRunner().invoke(main, [command, "--help"])
    assert result.exit_code == 0
    assert [option for option in options if option not in result.stdout] == []


def test_the_table_of_settings_is_complete_and_right():
    chapter = README.partition("## Configuration")[2].partition("\n## ")[0].replace("`", "")
    rows = [line.split(" |") for line in chapter.splitlines() if line.startswith("| ")]
    table = [[cell.strip("| ") for cell in row[:4]] for row in rows[1:]]
    told = {name: (variables.split(",")[0], *rest) for name, variables, *rest in table}
    assert told == {field.name: setting(field) for field in attrs.fields(Config)}


def setting(field):
    default = field.default
    if isinstance(default, bool):
        shown = str(default).lower()
    else:
        shown = f"{default:g}" if isinstance(default, float) else str(default)
    return field.metadata["variable"], shown, field.metadata["help"]


@pytest.mark.parametrize(
    "name",
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/promises.md", "docs/migration.md"],
)
def test_a_link_leads_somewhere(name):
    page = ROOT / name
    links = re.findall(r"\]\(([^)#:]+)\)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


def names_of_the_class_based_face():
    yield from compat.__all__
    for owner in (compat.Provider, compat.Actions):
        for name, value in vars(owner).items():
            if inspect.isfunction(value) and (not name.startswith("_") or name == "__init__"):
                yield from {name, *inspect.signature(value).parameters} - {"self", "__init__"}


@pytest.mark.parametrize("name", sorted(set(names_of_the_class_based_face())))
def test_a_name_of_the_class_based_face_is_in_the_table_of_the_migration_page(name):
    page = (ROOT / "docs/migration.md").read_text()
    table = page.partition("## Every name")[2].partition("\n## ")[0]
    assert name in re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", table)))


def test_each_promise_names_tests_that_exist():
    lines = (ROOT / "docs/promises.md").read_text().splitlines()
    promises = [line for line in lines if line.startswith("| ") and "held by" not in line]
    assert len(promises) > 30
    for promise in promises:
        held_by = re.findall(r"\(\.\./(tests/\w+\.py)\)`::(\w+)`", promise)
        assert held_by, promise
        for file, name in held_by:
            assert f"\ndef {name}(" in (ROOT / file).read_text(), f"{name} is not in {file}"


def test_the_floors_of_the_contributors_page_are_those_of_the_tests():
    from test_house import FLOORS

    page = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (\d) \| (.*) \|$", page, re.MULTILINE)
    told = {int(floor): set(re.findall(r"`(\w+)`", names)) for floor, names in rows}
    known = {floor: set(names.split()) for floor, names in FLOORS.items()}
    assert {floor: names - {"_version"} for floor, names in known.items()} == told
