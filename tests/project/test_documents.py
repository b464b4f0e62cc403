"""What the documents promise beyond their snippets, which run by themselves."""

from __future__ import annotations

import inspect
import re
import signal
import sys
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner
from support.processes import Process

import arbprov
from arbprov import ProviderApp, compat
from arbprov.cli import main
from arbprov.config import Config
from arbprov.localhub import LocalHub

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MIGRATION = (ROOT / "docs/migration.md").read_text()
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
    table = chapter("Every name, and where it lives now")
    assert name in re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", table)))


def chapter(title):
    """Return what the migration page has under a title."""
    level, rest = re.search(rf"^(#+) {title}\n(.*)", MIGRATION, re.MULTILINE | re.DOTALL).groups()
    return re.split(rf"^#{{2,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def snippets(title):
    return re.findall(r"```python\n(.*?)```", chapter(title), re.DOTALL)


@pytest.mark.parametrize("module", ["actions", "exceptions", "provider", "rate_limit"])
def test_a_module_of_the_guide_is_in_the_table_of_the_migration_page(module):
    rows = chapter("Every name, and where it lives now").splitlines()
    (row,) = [row for row in rows if f"`arbvantage_provider.{module}`" in row]
    assert row.endswith(" | `arbprov.compat` | `arbprov` |")


def test_the_migration_page_lists_what_handle_task_exception_is_not_asked_for():
    rows = chapter("What is different").splitlines()
    (row,) = [row for row in rows if row.startswith("| `handle_task_exception` |")]
    errors = [getattr(arbprov, name) for name in arbprov.__all__ if name.endswith("Error")]
    errors = {e for e in (*errors, arbprov.RateLimited) if issubclass(e, arbprov.TaskError)}
    assert {error.__name__ for error in errors} <= set(re.findall(r"`(\w+)`", row))


def test_commands_find_the_actions_of_a_class_and_of_functions(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "half_moved.py").write_text(snippets("Each sample of the guide, in both styles")[0])
    listed = CliRunner().invoke(main, ["actions", str(tmp_path / "half_moved.py")]).stdout
    assert [line for line in listed.splitlines() if line[0] != " "] == [
        "price(*, item)",
        "stock(item: str)",
    ]


@pytest.fixture
def both(tmp_path):
    """Return what starts the page's two class-based providers in one process."""
    limit_and_classes, together, _ = snippets("One limit for two providers")
    source = "import time\nfrom arbprov.compat import *\nfrom typing import *\n"
    source += limit_and_classes + together
    started = []

    def start(hub, **tokens):
        tokens = {"token-a": hub.token, "token-b": hub.token} | tokens
        script = re.sub(r"token-[ab]", lambda found: tokens[found[0]], source)
        (tmp_path / "both.py").write_text(script)
        started.append(Process(["both.py"], tmp_path, HUB_GRPC_URL=hub.address))
        return started[0]

    yield start
    started[0].kill()


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_stops_both_class_based_providers_of_a_process(both, sig):
    with LocalHub(hold=0.05) as hub:
        process = both(hub)
        for name in ("provider-a", "provider-b"):
            assert hub.call("ask", provider=name, timeout=30).status == "success"
        process.send(sig)
        assert process.ended() == 0


@pytest.mark.parametrize("refused", ["token-a", "token-b"])
def test_a_class_based_provider_that_fails_ends_the_other_one_of_its_process(both, refused):
    with LocalHub(hold=0.05) as hub:
        assert both(hub, **{refused: "wrong"}).ended() == 1


def test_an_optional_field_may_be_missing_where_the_migration_page_says():
    app = ProviderApp("sample")
    app.action("by_schema", payload_schema={"a": str | None})(lambda a: {"a": a})

    @app.action
    def by_default(a: str | None = None):
        return {"a": a}

    @app.action
    def by_annotation(a: str | None):
        return {"a": a}

    client = app.test_client()
    assert client.call("by_schema").data == client.call("by_default").data == {"a": None}
    assert "required field is missing" in str(client.call("by_annotation").problems)
    assert "*required field is missing*; write `= None`" in chapter("What is different")


@pytest.mark.parametrize(
    "monitor",
    [compat.TimeBasedRateLimitMonitor(1.0), compat.AdvancedRateLimitMonitor(1, 1)],
)
def test_arbprov_s_monitors_tell_their_limit_as_a_text(monitor):
    monitor.make_safe_request(lambda: None)
    told = monitor.check_rate_limits()
    assert (type(told["limit"]), "current_count" in told) == (str, False)
    assert "give a text as `limit`" in MIGRATION


def test_each_promise_names_tests_that_exist():
    lines = (ROOT / "docs/promises.md").read_text().splitlines()
    promises = [line for line in lines if line.startswith("| ") and "held by" not in line]
    assert len(promises) > 30
    for promise in promises:
        held_by = re.findall(r"\(\.\./(tests/[\w/]+\.py)\)`::(\w+)`", promise)
        assert held_by, promise
        for file, name in held_by:
            assert f"\ndef {name}(" in (ROOT / file).read_text(), f"{name} is not in {file}"


def test_the_layers_of_the_contributors_page_are_those_of_the_tests():
    from test_layers import LAYERS

    page = (ROOT / "CONTRIBUTING.md").read_text()
    rows = re.findall(r"^\| (\d) \| (.*) \|$", page, re.MULTILINE)
    told = {int(layer): set(re.findall(r"`(\w+)`", names)) for layer, names in rows}
    known = {layer: set(names.split()) for layer, names in LAYERS.items()}
    assert {layer: names - {"_version"} for layer, names in known.items()} == told
