"""The documents: commands, tables, links, and the names of tests. Their snippets run as tests."""

from __future__ import annotations

import inspect
import re
import shlex
import signal
import sys
from pathlib import Path

import attrs
import click
import pytest
from click.testing import CliRunner
from support.processes import Process
from support.waiting import TIMEOUT

import arbprov
from arbprov import ProviderApp, compat
from arbprov.cli import main
from arbprov.config import Config
from arbprov.hooks import Hooks
from arbprov.localhub import LocalHub
from arbprov.testing import faults

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
MIGRATION = (ROOT / "docs/migration.md").read_text()
REFERENCE = ROOT / "docs/reference"
SHELL = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
READMES = ["examples/README.md", "benchmarks/README.md"]
DOCS = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("docs/**/*.md"))
PAGES = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *READMES, *DOCS]
every_page = pytest.mark.parametrize("name", PAGES)


def test_the_first_command_installs_and_runs_the_quickstart():
    assert SHELL[0].strip().split(" && ") == [
        "python3 -m venv .venv",
        ".venv/bin/pip install -q '.[hub]'",
        ".venv/bin/arbprov dev examples/quickstart.py --tasks examples/quickstart.jsonl",
    ]


def test_ci_runs_the_command_of_the_tests_as_it_stands():
    pattern = re.search(r"grep -x '(.*)' README.md", (ROOT / ".ci/run").read_text())
    assert re.fullmatch(pattern[1], SHELL[2].strip())


def test_the_readme_takes_five_minutes():
    assert len(README.split()) <= 1_500


# Commands.


def commands():
    for name in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", (ROOT / name).read_text(), re.DOTALL):
            for line in block.splitlines():
                if match := re.search(r"(?:^|/|&& |[A-Z]=\S+ )arbprov (\w+)([^#]*)", line):
                    words = [match[1]]
                    if isinstance(main.get_command(None, match[1]), click.Group):
                        words.append(match[2].split()[0])
                    yield name, words, re.findall(r"--[a-z-]+", match[2])


@pytest.mark.parametrize(("page", "command", "options"), list(commands()))
def test_a_command_of_a_page_exists_with_its_options(page, command, options):
    result = CliRunner().invoke(main, [*command, "--help"])
    assert result.exit_code == 0
    assert [option for option in options if option not in result.stdout] == []


def test_all_commands_and_options_are_in_the_table_of_the_command_line():
    rows = re.findall(
        r"^\| `([a-z]+(?: [a-z]+)?)[^`]*` \| (.*) \|$",
        (REFERENCE / "command-line.md").read_text(),
        re.MULTILINE,
    )
    listed = {command: set(re.findall(r"--[a-z-]+", options)) for command, options in rows}
    assert listed == {name: options_of(command) for name, command in all_commands()}


def all_commands():
    for name in main.list_commands(None):
        command = main.get_command(None, name)
        if isinstance(command, click.Group):
            yield from ((f"{name} {verb}", part) for verb, part in command.commands.items())
        else:
            yield name, command


def options_of(command):
    shown = [param for param in command.params if not getattr(param, "hidden", False)]
    names = {name for param in shown for name in (*param.opts, *param.secondary_opts)}
    return {name for name in names if name.startswith("--")}


def test_the_tutorial_s_commands_print_what_it_shows(tmp_path, monkeypatch):
    page = (ROOT / "docs/tutorial/first-provider.md").read_text()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    outputs = []
    for language, block in re.findall(r"```(python|console)\n(.*?)```", page, re.DOTALL):
        if language == "python" and "ProviderApp(" in block:
            Path("weather.py").write_text(block)
            sys.modules.pop("weather", None)
        elif match := re.match(r"\$ arbprov (.*)\n((?:.|\n)*)", block):
            result = CliRunner().invoke(main, shlex.split(match[1]))
            outputs.append((result.output, match[2]))
    assert [printed for printed, _ in outputs] == [shown for _, shown in outputs]
    assert len(outputs) == 3


# Tables of the reference.


def table_rows(page, title):
    """Return the cells of the first table after a title, without the table's head."""
    rest = (REFERENCE / page).read_text().partition(f"# {title}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", rest, re.MULTILINE)[0].replace("\\|", "/")
    return [[cell.strip() for cell in row.split("|")[1:-1]] for row in table.splitlines()[2:]]


def test_the_table_of_settings_is_complete_and_right():
    rows = [
        [cell.replace("`", "") for cell in row] for row in table_rows("settings.md", "Settings")
    ]
    listed = {name: (variables.split(",")[0], *rest) for name, variables, *rest in rows}
    assert listed == {field.name: setting(field) for field in attrs.fields(Config)}


def setting(field):
    default = field.default
    if isinstance(default, bool):
        shown = str(default).lower()
    else:
        shown = f"{default:g}" if isinstance(default, float) else str(default)
    return field.metadata["variable"], shown, field.metadata["help"]


@pytest.mark.parametrize(
    ("page", "decorator"),
    [("actions.md", ProviderApp.action), ("rate-limits.md", ProviderApp.rate_limit)],
)
def test_the_table_of_a_decorator_s_arguments_is_complete(page, decorator):
    rows = table_rows(page, f"Arguments of `@app.{decorator.__name__}`")
    assert [row[0].strip("`") for row in rows] == [*inspect.signature(decorator).parameters][1:]


def test_the_table_of_hooks_is_complete():
    listed = {re.search(r"\w+", row[0])[0] for row in table_rows("hooks.md", "Hooks")}
    fields = {field.name for field in attrs.fields(Hooks)}
    assert listed == {name.replace("errorhandlers", "errorhandler") for name in fields}


def test_the_table_of_errors_is_complete():
    page = (REFERENCE / "errors.md").read_text()
    listed = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    classes = filter(inspect.isclass, (getattr(arbprov, name) for name in arbprov.__all__))
    errors = {cls.__name__ for cls in classes if issubclass(cls, arbprov.ProviderError)}
    assert listed == errors - {"ProviderError"}


def test_the_table_of_faults_is_complete():
    rows = table_rows("testing.md", "Steps of a script: `arbprov.testing.faults`")
    steps = {name for name in faults.__all__ if inspect.isfunction(getattr(faults, name))}
    assert {re.search(r"\w+", row[0])[0] for row in rows} == steps


# Links.


@every_page
def test_a_link_leads_somewhere(name):
    page = ROOT / name
    links = re.findall(r"\]\(([^)\s:]+)\)", page.read_text())
    assert [link for link in links if not is_there(page, link)] == []


def is_there(page, link):
    path, _, title = link.partition("#")
    target = page.parent / path if path else page
    return target.exists() and (not title or title in anchors(target.read_text()))


def anchors(text):
    """Return the names of a page's titles in links."""
    titles = re.findall(r"^#+ (.*)", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_the_index_lists_every_page():
    linked = re.findall(r"\]\(([^)#]+\.md)\)", (ROOT / "docs/README.md").read_text())
    assert {f"docs/{link}" for link in linked} >= {*DOCS} - {"docs/README.md"}


# The page about the class-based framework.


def class_based_names():
    yield from compat.__all__
    for owner in (compat.Provider, compat.Actions):
        for name, value in vars(owner).items():
            if inspect.isfunction(value) and (not name.startswith("_") or name == "__init__"):
                yield from {name, *inspect.signature(value).parameters} - {"self", "__init__"}


@pytest.mark.parametrize("name", sorted(set(class_based_names())))
def test_a_class_based_name_is_in_the_table_of_the_migration_page(name):
    table = chapter("Every name, and where it lives now")
    assert name in re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", table)))


def chapter(title):
    """Return the text of the migration page under a title."""
    level, rest = re.search(rf"^(#+) {title}\n(.*)", MIGRATION, re.MULTILINE | re.DOTALL).groups()
    return re.split(rf"^#{{2,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def snippets(title):
    return re.findall(r"```python\n(.*?)```", chapter(title), re.DOTALL)


@pytest.mark.parametrize("module", ["actions", "exceptions", "provider", "rate_limit"])
def test_a_module_of_the_guide_is_in_the_table_of_the_migration_page(module):
    rows = chapter("Every name, and where it lives now").splitlines()
    (row,) = [row for row in rows if f"`arbvantage_provider.{module}`" in row]
    assert row.endswith(" | `arbprov.compat` | `arbprov` |")


def test_the_migration_page_lists_the_errors_that_handle_task_exception_does_not_get():
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
        "price",
        "stock",
    ]


@pytest.fixture
def both(tmp_path):
    """Return a function that starts the page's two class-based providers in one process."""
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
            assert hub.call("ask", provider=name, timeout=TIMEOUT).status == "success"
        process.send(sig)
        assert process.wait() == 0


@pytest.mark.parametrize("refused", ["token-a", "token-b"])
def test_a_class_based_provider_that_fails_ends_the_other_one_of_its_process(both, refused):
    with LocalHub(hold=0.05) as hub:
        assert both(hub, **{refused: "wrong"}).wait() == 1


def by_default(a: str | None = None):
    return {"a": a}


@pytest.mark.parametrize(
    ("handler", "options"),
    [(lambda a: {"a": a}, {"payload_schema": {"a": str | None}}), (by_default, {})],
)
def test_an_optional_field_of_a_schema_or_with_a_default_may_be_missing(handler, options):
    app = ProviderApp("sample")
    app.action("read", **options)(handler)
    assert app.test_client().call("read").data == {"a": None}


def test_an_annotation_alone_makes_no_field_optional_as_the_migration_page_says():
    app = ProviderApp("sample")

    @app.action
    def read(a: str | None):
        return {"a": a}

    (problem,) = app.test_client().call("read").problems
    assert f"*{problem['message']}*; write `= None`" in chapter("What is different")


@pytest.mark.parametrize(
    "monitor",
    [compat.TimeBasedRateLimitMonitor(1.0), compat.AdvancedRateLimitMonitor(1, 1)],
)
def test_arbprov_s_monitors_report_their_limit_as_a_text(monitor):
    monitor.make_safe_request(lambda: None)
    report = monitor.check_rate_limits()
    assert (type(report["limit"]), "current_count" in report) == (str, False)
    assert "give a text as `limit`" in MIGRATION


PROMISES = [
    line
    for line in (ROOT / "docs/promises.md").read_text().splitlines()
    if line.startswith("| ") and "held by" not in line
]


def cited_tests(promise):
    """Return the label, the file and the name of each test that holds a promise."""
    return re.findall(r"\[(\w+)\]\(\.\./(tests/[\w/]+\.py)\)`::(\w+)`", promise)


def test_each_promise_is_held_by_a_test():
    assert [promise for promise in PROMISES if not cited_tests(promise)] == []


def test_the_tests_of_the_promises_exist():
    named = {(file, name) for promise in PROMISES for _, file, name in cited_tests(promise)}
    missing = {
        name
        for file, name in named
        if not re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.MULTILINE)
    }
    assert (missing, len(named) > 30) == (set(), True)


def test_the_links_of_the_promises_are_labelled_with_the_files_of_their_tests():
    named = {(label, file) for promise in PROMISES for label, file, _ in cited_tests(promise)}
    assert {label for label, file in named if Path(file).stem != label} == set()


def test_the_files_to_begin_with_are_there():
    page = (ROOT / "CONTRIBUTING.md").read_text()
    files = re.findall(r"\? \| `(arbprov/[\w/]+\.py)` \|$", page, re.MULTILINE)
    assert [(ROOT / file).exists() for file in files] == [True] * 5


def test_the_modules_of_a_task_s_way_are_there():
    page = (ROOT / "CONTRIBUTING.md").read_text()
    modules = re.findall(r"(\w+/\w+): ", page.partition("```mermaid")[2].partition("```")[0])
    assert [name for name in modules if not (ROOT / f"arbprov/{name}.py").exists()] == []
