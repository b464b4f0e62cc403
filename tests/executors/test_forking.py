"""A fork of a provider gets errors, and no way to go on as if it were the provider."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import TIMEOUT

from arbprov import ProviderError
from arbprov.executors import executor, forking
from arbprov.localhub import LocalHub


@pytest.fixture(scope="module")
def provider():
    """A hub that the support's provider works for, in a process of its own, and its stderr."""
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
@pytest.mark.parametrize("action", ["touch", "touch_from_the_loop"])
def test_a_fork_that_touches_the_app_gets_an_error(call, provider, action, how):
    assert call(action, {"how": how}) == {
        "raised": f"ProviderError: this process was forked from process {provider[1].pid}, where "
        f"<ProviderApp 'forking'> runs; its threads, locks and connections are not here; start "
        f"the app after the fork, or start this process with multiprocessing's 'spawn' method"
    }


@pytest.mark.parametrize("how", ["run", "stop"])
def test_a_fork_of_a_handler_s_process_gets_an_error_too(call, how):
    said = call("touch_from_a_process", {"how": how})["raised"]
    assert said.startswith("ProviderError: this process runs handlers with isolation=")


@pytest.mark.parametrize("how", ["run", "stop"])
def test_a_handler_in_a_process_of_its_own_that_touches_the_app_gets_an_error(call, how):
    assert call("stop_in_a_process", {"how": how})["type"] == "ProviderError"


@pytest.mark.parametrize("action", ["go_on", "go_on_on_the_loop", "go_on_in_a_process"])
def test_a_fork_that_goes_on_as_the_provider_ends(call, provider, action):
    assert call(action) == {"exit_code": 70}
    while "a handler has forked this process" not in (line := provider[1].stderr.readline()):
        assert line


def test_a_fork_in_a_process_logs_by_itself(call, provider):
    assert call("log_in_a_fork") == {"raised": "returned None"}
    while (line := provider[1].stderr.readline()) != "hello from a fork\n":
        assert line


def test_a_fork_in_a_process_can_refund_nothing(call):
    said = call("refund_in_a_fork")["raised"]
    assert said.startswith("ProviderError: this process was forked from process")


def test_an_app_can_run_in_a_fork_that_was_made_before(hub, tmp_path):
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
    ("touch", "said"),
    [
        ("ProviderApp('another', auth_token='a', hub_url='127.0.0.1:1').run", "where gRPC, of an"),
        ("app.test_client", "returned <"),
    ],
)
def test_a_fork_after_the_end_of_an_app_may_test_it_but_run_none(touch, said):
    script = (
        "from arbprov import ProviderApp\n"
        "from support.forking import what_it_raises\n"
        "app = ProviderApp('ran', auth_token='a', hub_url='127.0.0.1:1')\n"
        "app.stop()\n"
        "app.run()\n"
        f"print(what_it_raises({touch}))\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
    )
    assert said in ended.stdout


# The parts, without a fork.


@pytest.fixture
def ends(monkeypatch):
    """What ends forks, where it is called, which then ends only a thread or a loop."""
    ended = []

    def end(code=None):
        ended.append(code)
        raise SystemExit

    monkeypatch.setattr(os, "_exit", end)
    return ended


def test_a_fork_that_has_to_end_says_why(ends, capfd):
    with pytest.raises(SystemExit):
        forking.end_fork()
    assert ends == [70]
    assert "end such a process with os._exit(), or use subprocess" in capfd.readouterr().err


def test_a_loop_ends_in_a_fork_at_its_next_turn(ends):
    async def main():
        with forking.loop_kept_from_forks(asyncio.get_running_loop()):
            forking._stop_loops()
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert ends == [70]


def test_a_thread_ends_in_a_fork_after_its_work(monkeypatch):
    ended = []
    monkeypatch.setattr(executor, "end_fork", lambda: ended.append(True))

    async def main():
        pool = executor.ThreadPool(asyncio.get_running_loop(), "test")
        pool._process = -1
        await pool.run(lambda: None)

    asyncio.run(main())
    assert ended == [True]


def test_grpc_is_imported_without_its_fork_handlers_and_nothing_else_is_told(monkeypatch):
    monkeypatch.delenv("GRPC_ENABLE_FORK_SUPPORT", raising=False)
    with forking.without_fork_handlers():
        assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "0"
    assert "GRPC_ENABLE_FORK_SUPPORT" not in os.environ


def test_two_apps_that_import_grpc_at_once_do_not_trip_over_each_other(monkeypatch):
    monkeypatch.delenv("GRPC_ENABLE_FORK_SUPPORT", raising=False)
    with forking.without_fork_handlers():
        del os.environ["GRPC_ENABLE_FORK_SUPPORT"]  # the other one's import has ended first
    assert "GRPC_ENABLE_FORK_SUPPORT" not in os.environ


def test_who_wants_the_fork_handlers_of_grpc_has_them(monkeypatch):
    monkeypatch.setenv("GRPC_ENABLE_FORK_SUPPORT", "1")
    with forking.without_fork_handlers():
        assert os.environ["GRPC_ENABLE_FORK_SUPPORT"] == "1"


def test_a_guard_lets_go_of_what_it_kept_for_a_while(monkeypatch):
    guard = forking.ForkGuard("it")
    with guard.kept():
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(ProviderError):
            guard.check()
    guard.check()
