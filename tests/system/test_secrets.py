"""No log, repr or result shows the token or a value of an account."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import os
import subprocess
import sys
import uuid
from concurrent import futures
from pathlib import Path
from typing import Annotated, Any

import attrs
import grpc
import pytest
from attrs import validators
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.hubs import ScriptedHub
from support.loops import JumpingLoop, run_jumping
from support.waiting import TIMEOUT

from arbprov import (
    HubConnectionError,
    InvalidPayloadError,
    ProviderApp,
    ProviderError,
    ProviderResponse,
    RateLimited,
    TaskContext,
)
from arbprov._proto import hub_pb2
from arbprov.clock import SystemClock
from arbprov.errors import AuthenticationError
from arbprov.executors.child import CallRequest, ContextState, Failure
from arbprov.localhub import LocalHub
from arbprov.redaction import redact
from arbprov.task import Status, Task, TaskResult
from arbprov.wire.client import GrpcHub
from arbprov.wire.hub import ResultRefused
from arbprov.wire.messages import encode_result
from arbprov.wire.tokens import Token
from arbprov.worker.worker import Worker, WorkerSettings

TOKEN = "token-0f-the-hub"
SECRET = "Hunter22xyz"
# Parts of both that no text may contain.
TRACES = ("unter22", "0f-the-hub")


def assert_clean(*texts):
    for text in texts:
        for trace in TRACES:
            assert trace not in str(text), text


def leaves(data):
    if isinstance(data, str):
        return [data]
    items = [*data, *data.values()] if isinstance(data, dict) else data
    return [leaf for item in items if not isinstance(item, bool) for leaf in leaves(item)]


# An app whose handlers and hooks put secrets into everything.


class Notes(Exception):
    """Has a note on Python 3.11 and newer."""

    def __init__(self, text):
        super().__init__("has a note")
        self.__notes__ = [text]


def raise_chained(text):
    try:
        raise KeyError(text)
    except KeyError as error:
        raise ValueError("because") from error


def raise_in_context(text):
    try:
        raise KeyError(text)
    finally:
        raise ValueError(text)


def raise_group(text):
    if sys.version_info < (3, 11):
        raise ValueError(text)
    raise ExceptionGroup(text, [ValueError(text), KeyError(text)])  # noqa: F821


def raise_named(text):
    raise type(text, (Exception,), {})(text)


def raising(error):
    def fail(text):
        raise error(text)

    return fail


WAYS = {
    "value": raising(ValueError),
    "key": raising(KeyError),
    "note": raising(Notes),
    "chained": raise_chained,
    "context": raise_in_context,
    "group": raise_group,
    "name": raise_named,
    "exit": raising(SystemExit),
    "payload": raising(InvalidPayloadError),
    "provider": raising(ProviderError),
    "limit": lambda text: raising(lambda t: RateLimited(5, limit=t))(text),
    "response": lambda text: ProviderResponse("error", message=text, data={text: [text]}),
    "set": lambda text: {text: {1}},
    "path": lambda text: {text: object()},
    "slow": None,
}


@attrs.frozen
class Account:
    key: Annotated[str, validators.in_(["none", "such"])]


def make_app():
    app = ProviderApp("secretive", auth_token=TOKEN, execution_timeout=5)
    app.seen = []

    @app.action
    async def fail(ctx: TaskContext, way: str):
        app.seen.append(repr(ctx))
        plain = " ".join(f"{value} <{value.strip()}>" for value in leaves(ctx.account))
        text = f"{json.dumps(ctx.account)} {ctx.account} {TOKEN} {plain}"
        if way == "slow":
            await asyncio.sleep(60)
        return WAYS[way](text)

    @app.action
    async def typed(account: Account):
        return {}

    @app.action(account_schema={"other": int}, forbid_extra=True)
    async def strict():
        return {}

    @app.action
    @app.rate_limit("1/hour", key=lambda call: raising(LookupError)(str(call.account)))
    async def limited():
        return {}

    @app.action
    @app.rate_limit("1/hour", key="account.missing")
    async def keyed():
        return {}

    return app


def with_bad_hooks():
    app = make_app()

    @app.before_task
    def before(ctx):
        app.seen.append(repr(ctx))

    @app.after_task
    def after(result, ctx):
        raise ValueError(f"{ctx.account} {result.task.account} {TOKEN}")

    @app.teardown_task
    def teardown(error, ctx):
        raise ValueError(f"{ctx.account} {error!r} {TOKEN}")

    @app.errorhandler(Exception)
    def answer(error, ctx):
        raise KeyError(f"{ctx.account} {error!r} {TOKEN}")

    return app


SHAPES = {
    "a text": {"key": SECRET},
    "deep": {"a": [{"b": [SECRET]}]},
    "a key": {"keys": {f"sk-{SECRET}": True}},
    "lines": {"pem": f"-----BEGIN-----\n{SECRET}\n-----END-----"},
    "quotes": {"key": f'it\'s "{SECRET}"'},
    "blanks": {"key": f"  {SECRET}\n"},
    "letters": {"key": f"ü{SECRET}é\u2028"},
    "escapes": {"key": f"\x1b[31m{SECRET}\\"},
    "with a token": {"key": f"{SECRET}", "copy": TOKEN},
}
UNREADABLE = {
    "no JSON": f'{{"key": "{SECRET}"'.encode(),
    "no object": f'["{SECRET}"]'.encode(),
    "no UTF-8": SECRET.encode() + b"\xff",
    "a constant": f'{{"{SECRET}": NaN}}'.encode(),
}
ACCOUNTS = {
    **{name: json.dumps(shape).encode() for name, shape in SHAPES.items()},
    **{
        f"{name}, all letters": json.dumps(s, ensure_ascii=False).encode()
        for name, s in SHAPES.items()
    },
    **UNREADABLE,
}
TASKS = [*(("fail", {"way": way}) for way in WAYS), ("fail", {}), ("typed", {}), ("strict", {})]
TASKS += [("limited", {}), ("keyed", {}), ("nowhere", {})]


def tasks_of(account):
    return [Task(f"t{n}", a, json.dumps(p).encode(), account) for n, (a, p) in enumerate(TASKS)]


def work(app, tasks):
    """Have a worker do all tasks, and return the results that it sent."""
    loop = JumpingLoop()
    hub = ScriptedHub(polls=tasks)

    async def main():
        worker = Worker(
            app._dispatcher(loop),
            hub,
            app._life_hooks(),
            WorkerSettings(concurrency=8, drain_timeout=25, start_timeout=30, max_task_timeout=5),
        )
        loop.call_later(100, worker.stop)
        await worker.run()

    run_jumping(main(), loop)
    return [result for _, result in hub.submitted]


@pytest.fixture
def log_texts(caplog):
    """Return a function that yields every text of the log that a log handler could see."""
    caplog.set_level(logging.DEBUG)

    def log_texts():
        for record in caplog.records:
            yield from (record.getMessage(), repr(record.args), repr(record.__dict__))
        yield caplog.text

    return log_texts


@pytest.mark.parametrize("make", [make_app, with_bad_hooks])
@pytest.mark.parametrize("account", ACCOUNTS.values(), ids=ACCOUNTS)
def test_no_log_result_or_repr_shows_an_account_or_the_token(account, make, log_texts):
    app = make()
    results = work(app, tasks_of(account))
    assert len(results) == len(TASKS)
    assert_clean(*log_texts(), *app.seen, *map(repr, results), *(result.body for result in results))


letters = st.characters(exclude_categories=["Cs"])
fillers = st.text(letters, max_size=6)
spiced = st.builds(lambda before, after: f"{before}{SECRET}{after}", fillers, fillers)
accounts = st.dictionaries(
    st.sampled_from(["key", "other", "a_b"]),
    st.recursive(
        spiced,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3)
            | st.dictionaries(st.sampled_from(["x", "y"]), inner, min_size=1)
        ),
        max_leaves=4,
    ),
    min_size=1,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(accounts, st.booleans())
def test_no_log_or_result_shows_any_account(log_texts, caplog, account, ascii_only):
    caplog.clear()
    app = with_bad_hooks()
    results = work(app, tasks_of(json.dumps(account, ensure_ascii=ascii_only).encode()))
    assert_clean(*log_texts(), *app.seen, *(result.body for result in results))


def test_searching_for_a_secret_of_backslashes_is_fast():
    text = "x" + "\\" * 20_000 + "y"
    assert redact(text, ["\\" * 50 + "x", '\\"' * 50]) == text


# Converted secrets.


@pytest.mark.parametrize(
    ("kind", "given", "trace"),
    [
        (bytes, base64.b64encode(SECRET.encode()).decode(), SECRET),
        (uuid.UUID, "6BA7B8109DAD11D180B400C04FD430C8", "9dad-11d1"),
        (uuid.UUID, "6BA7B810-9DAD-11D1-80B4-00C04FD430C8", "9dad-11d1"),
        (float, 123456.5, "123456"),
        (int, 12345678, "12345678"),
    ],
)
def test_a_converted_value_of_an_account_is_a_secret_too(kind, given, trace):
    app = ProviderApp("secretive")

    @app.action
    def fail(account):
        raise ValueError(repr(account))

    fail.__annotations__["account"] = dict[str, kind]
    app = ProviderApp("secretive")
    app.action(fail)
    assert trace not in app.test_client().call("fail", account={"key": given}).body


def test_an_error_result_of_a_hook_shows_no_secret():
    app = make_app()

    @app.after_task
    def after(result, ctx):
        return attrs.evolve(result, status="error", message=SECRET, data={SECRET: SECRET})

    assert_clean(app.test_client().call("strict", account={"other": 5, "key": SECRET}).body)


def test_a_success_is_not_redacted():
    app = ProviderApp("open")

    @app.action
    def tell(account: dict):
        return account

    assert app.test_client().call("tell", account={"name": SECRET}).data == {"name": SECRET}


# The hub.


class Echo(grpc.GenericRpcHandler):
    """A hub that refuses each request, and quotes it."""

    def __init__(self, code):
        self._code = code

    def service(self, details):
        kind = hub_pb2.ProviderRequest if "GetTask" in details.method else hub_pb2.TaskResult
        return grpc.unary_unary_rpc_method_handler(
            self._refuse, kind.FromString, hub_pb2.Task.SerializeToString
        )

    def _refuse(self, request, context):
        context.abort(self._code, f"no: {request}\nand a line of its own \x1b[31m")


@contextlib.contextmanager
def echo(code):
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Echo(code)])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None).wait()


RESULT = TaskResult(
    Task("t", "a", b"{}", json.dumps({"key": SECRET}).encode()), Status.SUCCESS, "m", {}, "{}"
)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("fetch", ()), ("submit", (encode_result(RESULT, "p"),))],
    ids=["fetch", "submit"],
)
@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    ],
)
def test_a_hub_that_quotes_a_secret_is_not_quoted(code, method, arguments):
    async def ask(url):
        token = Token(TOKEN)
        token.read()
        hub = GrpcHub(url, provider="p", token=token, poll_timeout=TIMEOUT, submit_timeout=TIMEOUT)
        try:
            await getattr(hub, method)(*arguments)
        finally:
            await hub.close()

    with echo(code) as url, pytest.raises(ProviderError) as caught:
        asyncio.run(ask(url))
    assert type(caught.value) in {HubConnectionError, AuthenticationError, ResultRefused}
    assert_clean(caught.value, repr(caught.value))
    assert str(caught.value).isprintable()


def test_a_provider_writes_no_secret_to_stderr(tmp_path):
    with echo(grpc.StatusCode.UNAUTHENTICATED) as url:
        (tmp_path / "token").write_text(TOKEN)
        token = ["--auth-token-file", "token"]
        (tmp_path / "it.py").write_text("from arbprov import ProviderApp\napp = ProviderApp()\n")
        ended = subprocess.run(
            [sys.executable, "-m", "arbprov", "run", "it", "--hub-url", url, *token],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )
    assert ended.returncode == 77
    assert_clean(ended.stdout, ended.stderr)


def test_a_handler_s_process_shows_no_secret(tmp_path):
    (tmp_path / "it.py").write_text(
        "import os\n"
        "from arbprov import ProviderApp\n"
        "app = ProviderApp(execution_timeout=10)\n"
        "@app.action(isolation='process')\n"
        "def fail(account: dict): raise ValueError(f\"{account} {os.environ['TOKEN']}\")\n"
        "@app.action(isolation='process')\n"
        "def crash(account: dict): os.abort()\n"
        "if __name__ == '__main__': app.run()\n"
    )
    with LocalHub(hold=0.05, token=TOKEN) as hub:
        environ = {"PROVIDER_AUTH_TOKEN": TOKEN, "TOKEN": TOKEN, "HUB_GRPC_URL": hub.address}
        process = subprocess.Popen(
            [sys.executable, "it.py"],
            cwd=tmp_path,
            env=os.environ | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        with process:
            results = [
                hub.call(action, account={"key": SECRET}, timeout=TIMEOUT)
                for action in ("fail", "crash")
            ]
            arguments = [path.read_text() for path in Path("/proc").glob("[0-9]*/cmdline")]
            process.terminate()
            output = process.communicate(timeout=TIMEOUT)[0]
    assert "ValueError" in output
    assert "was killed by SIGABRT" in output
    assert_clean(output, *(result.result for result in results), *arguments)


# Reprs.


def test_no_repr_holds_a_secret():
    app = make_app()
    account = {"key": SECRET}
    dispatcher = app._dispatcher(SystemClock())
    call: Any = dispatcher.prepare(
        Task("t", "fail", json.dumps({"way": SECRET}).encode(), json.dumps(account).encode())
    )
    call.error = ValueError(SECRET)
    context = ContextState("t", "p", 1, 1.0, "l", {"p": SECRET}, account, [], [], False)
    assert_clean(
        *map(repr, (app, app.config, dispatcher, call, call.ctx, call.route, call.task)),
        *map(repr, (context, CallRequest("fail", [account], account, {}, [], context))),
        repr(Failure.of(ValueError(SECRET))),
        repr(LocalHub(token=TOKEN)),
        repr(RESULT),
    )


# Lines.

NASTY = "t\n2026-01-01 ERROR root: forged\x1b[31m\u2028\u202e" + "x" * 100_000


def test_text_from_a_task_stays_on_one_line_of_the_log(log_texts, caplog):
    work(make_app(), [Task(NASTY, NASTY), Task(NASTY + "2", "fail", b'{"way": "slow"}')])
    messages = [record.getMessage() for record in caplog.records if record.name == "arbprov"]
    assert len(messages) >= 3
    assert all(message.isprintable() and len(message) < 1_000 for message in messages)


def test_an_exception_s_text_can_not_forge_a_line_of_the_log(caplog):
    app = make_app()

    @app.action
    def forge():
        raise ValueError("x\n2026-01-01 ERROR root: forged \x1b[31m")

    app.test_client().call("forge", id=NASTY)
    lines = caplog.records[0].getMessage().split("\n")
    assert all(line.isprintable() for line in lines)
    assert all(line.startswith("  ") for line in lines[1:])
