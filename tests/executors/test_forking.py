"""A fork of a provider's process gets errors and can't go on as if it were the provider."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import TIMEOUT

from arbprov import ProviderError
from arbprov.executors import forking, threads
from arbprov.localhub import LocalHub


@pytest.fixture(scope="module")
def provider():
    """A hub, and the process of `support.forking`'s provider that works for it."""
    with LocalHub(hold=0.05) as hub:
        process = subprocess.Popen(
            [sys.executable, "-m", "support.forking"],
            env=os.environ
            | {
                "PROVIDER_AUTH_TOKEN": hub.token,
                "HUB_GRPC_URL": hub.address,
                "PYTHONPATH": str(Path(__file__).parent.parent),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            yield hub, process
            process.terminate()
            process.communicate(timeout=TIMEOUT)


@pytest.fixture
def call(provider):
    def call(action, payload=None):
        result = provider[0].call(action, payload, timeout=TIMEOUT)
        return result.data

    return call


@pytest.mark.parametrize("how", ["run", "stop", "test_client"])
@pytest.mark.parametrize("action", ["use", "use_from_the_loop"])
def test_a_fork_that_uses_the_app_gets_an_error(call, provider, action, how):
    assert call(action, {"how": how}) == {
        "raised": f"ProviderError: this process was forked from process {provider[1].pid}, where "
        f"<ProviderApp 'forking'> runs; its threads, locks and connections are not here; start "
        f"the app after the fork, or start this process with multiprocessing's 'spawn' method"
    }


@pytest.mark.parametrize("how", ["run", "stop"])
def test_a_fork_of_a_handler_s_process_gets_an_error_too(call, how):
    raised = call("use_from_a_process", {"how": how})["raised"]
    assert raised.startswith("ProviderError: this process runs handlers with isolation=")


@pytest.mark.parametrize("how", ["run", "stop"])
def test_an_isolated_handler_that_uses_the_app_gets_an_error(call, how):
    assert call("use_in_a_process", {"how": how})["type"] == "ProviderError"


@pytest.mark.parametrize(
    "action", ["return_in_a_fork", "return_in_a_fork_on_the_loop", "return_in_a_fork_of_a_process"]
)
def test_a_fork_whose_handler_returns_ends(call, provider, action):
    assert call(action) == {"exit_code": 70}
    while "a handler forked this process" not in (line := provider[1].stderr.readline()):
        assert line


def test_a_fork_of_a_handler_s_process_logs_to_stderr(call, provider):
    assert call("log_in_a_fork") == {"raised": "returned None"}
    while (line := provider[1].stderr.readline()) != "hello from a fork\n":
        assert line


def test_a_fork_of_a_handler_s_process_can_not_refund(call):
    raised = call("refund_in_a_fork")["raised"]
    assert raised.startswith("ProviderError: this process was forked from process")


def test_an_app_can_run_in_a_fork_made_before_it_ran(hub, tmp_path):
    script = (
        "import os\n"
        "from arbprov import ProviderApp\n"
        "app = ProviderApp()\n"
        "@app.action\n"
        "def work(): return {'pid': os.getpid()}\n"
        "app.test_client().call('work')\n"
        "pid = os.fork()\n"
        "if pid: os.waitpid(pid, 0)\n"
        "else: app.run()\n"
    )
    environ = {"PROVIDER_AUTH_TOKEN": hub.token, "HUB_GRPC_URL": hub.address}
    with subprocess.Popen([sys.executable, "-c", script], env=os.environ | environ) as process:
        pid = hub.call("work", timeout=TIMEOUT).data["pid"]
        assert pid != process.pid
        os.kill(pid, 15)
        assert process.wait(TIMEOUT) == 0


@pytest.mark.parametrize(
    ("function", "outcome"),
    [
        ("ProviderApp('another', auth_token='a', hub_url='127.0.0.1:1').run", "where gRPC, of an"),
        ("app.test_client", "returned <"),
    ],
)
def test_a_fork_after_the_end_of_an_app_can_test_it_but_not_run_an_app(function, outcome):
    script = (
        "from arbprov import ProviderApp\n"
        "from support.forking import outcome_in_a_fork\n"
        "app = ProviderApp('ran', auth_token='a', hub_url='127.0.0.1:1')\n"
        "app.stop()\n"
        "app.run()\n"
        f"print(outcome_in_a_fork({function}))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert outcome in ended.stdout


# The same, without a fork.


@pytest.fixture
def exit_codes(monkeypatch):
    """The exit codes passed to `os._exit`, which raises `SystemExit` here."""
    codes = []

    def end(code=None):
        codes.append(code)
        raise SystemExit

    monkeypatch.setattr(os, "_exit", end)
    return codes


def test_a_fork_that_ends_says_why(exit_codes, capfd):
    with pytest.raises(SystemExit):
        forking.end_fork()
    assert exit_codes == [70]
    assert "end a fork with os._exit(), or use subprocess" in capfd.readouterr().err


def test_a_loop_in_a_fork_ends_it_at_its_next_step(exit_codes):
    async def main():
        with forking.stop_loop_in_forks(asyncio.get_running_loop()):
            forking._stop_loops()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert exit_codes == [70]


def test_a_thread_that_returns_in_a_fork_ends_it(monkeypatch):
    ended = []
    monkeypatch.setattr(threads, "end_fork", lambda: ended.append(True))

    async def main():
        pool = threads.ThreadPool(asyncio.get_running_loop(), "test")
        pool._process = -1
        await pool.run(lambda: None)

    asyncio.run(main())
    assert ended == [True]


def test_the_variable_that_turns_grpc_s_fork_handlers_off_is_set_only_for_the_import(monkeypatch):
    monkeypatch.delenv("GRPC_ENABLE_FORK_SUPPORT", raising=False)
    with forking.importing_grpc():
        assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "0"
    assert "GRPC_ENABLE_FORK_SUPPORT" not in os.environ


def test_grpc_s_own_log_lines_are_off_unless_the_user_wants_them(monkeypatch):
    monkeypatch.delenv("GRPC_VERBOSITY", raising=False)
    with forking.importing_grpc():
        assert os.environ["GRPC_VERBOSITY"] == "NONE"
    assert "GRPC_VERBOSITY" not in os.environ
    monkeypatch.setenv("GRPC_VERBOSITY", "DEBUG")
    with forking.importing_grpc():
        assert os.environ["GRPC_VERBOSITY"] == "DEBUG"


def test_two_apps_can_import_grpc_at_once(monkeypatch):
    monkeypatch.delenv("GRPC_ENABLE_FORK_SUPPORT", raising=False)
    with forking.importing_grpc():
        del os.environ["GRPC_ENABLE_FORK_SUPPORT"]  # as the other import does
    assert "GRPC_ENABLE_FORK_SUPPORT" not in os.environ


def test_a_user_s_own_setting_of_grpc_s_fork_handlers_is_kept(monkeypatch):
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "1")
    with forking.importing_grpc():
        assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "1"


def test_a_guard_releases_an_object_after_the_with_block(monkeypatch):
    guard = forking.ForkGuard("it")
    with guard.hold():
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(ProviderError):
            guard.check()
    guard.check()
