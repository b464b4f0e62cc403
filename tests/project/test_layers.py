"""The architecture: layers by folder, no import circles, and no IO in layers 1 to 3."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.waiting import TIMEOUT

PACKAGE = Path(__file__).parents[2] / "arbprov"

LAYERS = {
    1: "_proto _types _utils _version backoff errors task",
    2: "context hooks limits payload",
    3: "actions blueprint checks dispatcher redaction responses retry scaffold",
    4: "clock executors http instrumentation logs outbox owned_files wire",
    5: "config localhub testing worker",
    6: "__init__ __main__ app cli compat pytest_plugin",
}
LAYER = {name: layer for layer, names in LAYERS.items() for name in names.split()}
SANS_IO = 3
# Modules that wait, run code in parallel, read a clock, or use files and the network.
IO = {
    *("asyncio", "concurrent", "grpc", "multiprocessing", "queue", "sched", "select"),
    *("selectors", "signal", "socket", "ssl", "subprocess", "threading", "time", "urllib.request"),
}
LOCKS = {
    f"limits.{name}": {"threading"}
    for name in ("recent", "stores.failover", "stores.leases", "stores.memory", "stats")
}
# `handle_throttling` sleeps, as the class-based framework's does, by the machine's clock.
MONITORS = "limits.monitors"
ALLOWED_IO = LOCKS | {MONITORS: {"threading", "time"}, "_utils": {"signal"}}
ALLOWED_IMPORTS = {MONITORS: {"clock"}}
CLOCK_METHODS = {"now", "today", "utcnow", "sleep", "monotonic", "perf_counter"}


def module_name(path: Path) -> str:
    """Return ``limits.stores.memory`` for its file; a package has its own name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


def sources() -> dict[str, str]:
    paths = [path for path in PACKAGE.rglob("*.py") if path.name != "hub_pb2.py"]
    return {module_name(path): path.read_text() for path in paths}


def imports(source: str) -> Iterator[str]:
    """Yield each module that a source imports at run time, in its functions too."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports would escape this test"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(module: str) -> int:
    return LAYER[module.split(".", maxsplit=1)[0]]


def own_imports(source: str) -> set[str]:
    """Return the modules of arbprov that a source imports."""
    names = [
        name.removeprefix("arbprov.") for name in imports(source) if name.startswith("arbprov.")
    ]
    return {name for name in names if name in SOURCES}


def find_higher_imports(module: str, source: str) -> set[str]:
    """Return the modules of higher layers that a module may not import, and imports."""
    higher = {name for name in own_imports(source) if layer(name) > layer(module)}
    return higher - ALLOWED_IMPORTS.get(module, set())


def find_io_imports(module: str, source: str) -> set[str]:
    """Return the modules for IO that a module may not import, and imports."""
    used = {part for name in imports(source) for part in (name, name.split(".")[0]) if part in IO}
    return used - ALLOWED_IO.get(module, set())


def find_clock_calls(source: str) -> set[str]:
    """Return the calls that sleep by the machine's clock or read it."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    methods = [call.func for call in calls if isinstance(call.func, ast.Attribute)]
    return {
        ast.unparse(method)
        for method in methods
        if method.attr in CLOCK_METHODS and "clock" not in ast.unparse(method.value)
    }


SOURCES = sources()
LOWER = {name: text for name, text in SOURCES.items() if layer(name) <= SANS_IO}


def test_every_module_has_a_layer():
    assert {name.split(".")[0] for name in SOURCES} == set(LAYER)


def test_the_layers_are_in_the_table_of_the_contributors_page():
    page = (PACKAGE.parent / "CONTRIBUTING.md").read_text()
    listed: dict[int, set[str]] = {}
    for number, names in re.findall(r"^\| (\d) \| (.*?) \| .* \|$", page, re.MULTILINE):
        listed.setdefault(int(number), set()).update(re.findall(r"`(\w+)`", names))
    known = {number: set(names.split()) for number, names in LAYERS.items()}
    assert {number: names - {"_version"} for number, names in known.items()} == listed


@pytest.mark.parametrize("module", SOURCES)
def test_a_module_imports_no_higher_layer(module):
    assert find_higher_imports(module, SOURCES[module]) == set()


@pytest.mark.parametrize("module", LOWER)
def test_a_module_of_the_lower_layers_imports_nothing_that_does_io(module):
    assert find_io_imports(module, SOURCES[module]) == set()


@pytest.mark.parametrize("module", [name for name in LOWER if name != MONITORS])
def test_a_module_of_the_lower_layers_reads_no_clock(module):
    assert find_clock_calls(SOURCES[module]) == set()


def find_circles(graph: dict[str, set[str]]) -> set[str]:
    """Return the modules that import themselves, directly or through other modules."""
    reached = {name: set(targets) for name, targets in graph.items()}
    for _ in graph:
        for targets in reached.values():
            targets |= {next_target for t in set(targets) for next_target in reached.get(t, ())}
    return {name for name, targets in reached.items() if name in targets}


def test_no_module_is_in_a_circle():
    graph = {}
    for name, source in SOURCES.items():
        targets = own_imports(source) - {name}
        # `from arbprov.limits.policies import Limit` needs nothing else of arbprov.limits.
        graph[name] = {
            t for t in targets if not any(other.startswith(f"{t}.") for other in targets)
        }
    assert find_circles(graph) == set()


def test_no_folder_is_in_a_circle():
    graph: dict[str, set[str]] = {}
    for name, source in SOURCES.items():
        folder = name.split(".")[0]
        targets = {target.split(".")[0] for target in own_imports(source)}
        graph.setdefault(folder, set()).update(targets - {folder})
    assert find_circles(graph) == set()


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        (
            "grpc",
            {
                "wire.channel",
                "wire.client",
                "localhub.client",
                "localhub.health",
                "localhub.rpc",
                "localhub.server",
                "testing.faulty_hub",
            },
        ),
        ("google", {"_proto.hub_pb2"}),
        ("click", {name for name in SOURCES if name.startswith("cli")}),
        (
            "httpx",
            {
                "http.httpx",
                "http.httpx_auth",
                "localhub.clients.asynchronous",
                "localhub.clients.plain",
            },
        ),
        ("httpx2", {"http.httpx2", "http.httpx2_auth"}),
        ("pytest", {"pytest_plugin"}),
        ("orjson", {"payload.json"}),
        ("prometheus_client", {"instrumentation.metrics", "instrumentation.totals"}),
        ("jinja2", {"localhub.page.rendering"}),
        (
            "starlette",
            {name for name in SOURCES if name.startswith(("localhub.api.", "localhub.page."))},
        ),
        ("uvicorn", {"localhub.api.uvicorn_server"}),
        ("uvloop", {"worker.run"}),
    ],
)
def test_a_package_is_imported_only_where_it_belongs(package, allowed):
    importers = {
        name
        for name, source in SOURCES.items()
        if package in {imported.split(".")[0] for imported in imports(source)}
    }
    assert importers <= allowed


def test_the_import_and_the_test_client_load_neither_grpc_nor_click():
    code = """
import sys
before = set(sys.modules)
from arbprov import ProviderApp
app = ProviderApp()
@app.action
def echo(value: int) -> dict:
    return {"value": value}
assert app.test_client().call("echo", {"value": 1}).data == {"value": 1}
with app.test_client() as client:
    client.clock.advance(1)
heavy = {"grpc", "google", "click", "pydantic", "msgspec", "asyncio", "sqlite3", "redis", "uvloop"}
loaded = heavy & (set(sys.modules) - before)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=TIMEOUT)


def test_modules_for_running_actions_and_limits_are_loaded_on_demand():
    code = """
import sys
before = set(sys.modules)
from arbprov import ProviderApp
app = ProviderApp("lean")
put_off = {"cattrs", "json", "logging", "pathlib", "pickle", "ssl", "uuid", "zoneinfo"}
late = ("payload", "dispatcher", "limits", "testing", "wire.tls")
put_off |= {f"arbprov.{name}" for name in late}
loaded = put_off & (set(sys.modules) - before)
assert not loaded, loaded
@app.action
def echo(value: int) -> dict:
    return {"value": value}
put_off = {"arbprov.dispatcher", "arbprov.limits", "json", "logging", "pickle"}
loaded = put_off & (set(sys.modules) - before)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=TIMEOUT)


# The checks themselves.


def test_a_lazy_import_of_a_higher_layer_is_found():
    source = "def late():\n    from arbprov.worker.worker import Worker\n"
    assert find_higher_imports("payload", source) == {"worker.worker"}


def test_an_import_of_the_package_itself_is_found():
    assert find_higher_imports("payload", "from arbprov.cli import main") == {"cli"}


def test_an_import_for_types_only_is_not_counted():
    source = "if TYPE_CHECKING:\n    from arbprov.worker.worker import Worker\n"
    assert find_higher_imports("payload", source) == set()


@pytest.mark.parametrize(
    "source", ["import grpc.aio", "from time import sleep", "import threading"]
)
def test_io_is_found(source):
    assert find_io_imports("payload", source) != set()


@pytest.mark.parametrize(
    "source", ["time.sleep(1)", "x.sleep(1)", "datetime.now()", "dt.date.today()"]
)
def test_reading_a_clock_is_found(source):
    assert find_clock_calls(source) != set()


def test_reading_the_clock_that_was_passed_in_is_allowed():
    assert find_clock_calls("self.clock.monotonic(); self._clock.now()") == set()


def test_a_circle_is_found():
    assert find_circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == {"a", "b", "c"}


# Imports that the checks above can't see.


def find_public_imports(source: str) -> set[str]:
    """Return the imports of public names from ``arbprov`` itself, which is in the highest layer."""
    top_level = {name.split(".", maxsplit=1)[0] for name in SOURCES}
    plain = {
        alias.name
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.name == "arbprov"
    }
    names = [name for name in imports(source) if name.startswith("arbprov.")]
    return plain | {n for n in names if n.count(".") == 1 and n.split(".")[1] not in top_level}


def find_dynamic_imports(source: str) -> set[str]:
    """Return the calls that import a module by a text, which the other checks do not find."""
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    names = {ast.unparse(call.func) for call in calls}
    return {name for name in names if name.split(".")[-1] in {"__import__", "import_module"}}


@pytest.mark.parametrize("module", [name for name in SOURCES if layer(name) < 6])
def test_a_module_of_a_lower_layer_imports_no_public_name(module):
    assert find_public_imports(SOURCES[module]) == set()


@pytest.mark.parametrize("module", [name for name in SOURCES if layer(name) < 6])
def test_a_module_of_a_lower_layer_imports_no_module_by_a_text(module):
    assert find_dynamic_imports(SOURCES[module]) == set()


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import arbprov", {"arbprov"}),
        ("from arbprov import ProviderApp", {"arbprov.ProviderApp"}),
        ("def late():\n    from arbprov import Task", {"arbprov.Task"}),
        ("from arbprov import task", set()),
        ("from arbprov.task import Task", set()),
    ],
)
def test_an_import_of_a_public_name_is_found(source, found):
    assert find_public_imports(source) == found


@pytest.mark.parametrize("source", ["__import__('grpc')", "importlib.import_module('grpc')"])
def test_an_import_by_a_text_is_found(source):
    assert find_dynamic_imports(source) != set()


def test_a_relative_import_is_found():
    with pytest.raises(AssertionError, match="relative imports"):
        list(imports("from .worker import Worker"))


def test_a_lazy_import_that_does_io_is_found():
    assert find_io_imports("payload", "def late():\n    import grpc.aio") != set()


def test_a_module_that_may_lock_may_do_no_other_io():
    assert find_io_imports("limits.stores.memory", "import threading, queue") == {"queue"}


def test_a_module_without_a_layer_is_found():
    with pytest.raises(KeyError, match="attic"):
        layer("attic.trunk")
