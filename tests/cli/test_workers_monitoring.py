"""The monitoring of `arbprov run --workers`: the supervisor serves the sum, with real processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from support.monitored import Pages, address_in, parse
from support.processes import Process
from support.waiting import TIMEOUT, wait_until

from arbprov import ConfigurationError, ProviderApp
from arbprov.cli.supervisor.control_channel import Beat, ControlChannel
from arbprov.cli.supervisor.monitoring import Monitoring
from arbprov.cli.supervisor.worker import WorkerInfo, run_worker
from arbprov.cli.supervisor.worker_process import WorkerProcess
from arbprov.instrumentation.setup import make_totals
from arbprov.instrumentation.totals import Totals
from arbprov.testing import FaultyHub

PROVIDER = """
import os
import threading
from arbprov import ProviderApp

app = ProviderApp("crew", execution_timeout=60)

@app.action
def who() -> dict:
    return {"pid": os.getpid()}

@app.action
def wait_for_file() -> dict:
    while not os.path.exists("go"):
        threading.Event().wait(0.005)
    return {"pid": os.getpid()}

@app.action
async def hang() -> dict:
    return wait_for_file()
"""
OWN = """
from prometheus_client import Counter
orders = Counter("shop_orders", "Orders.")

@app.action
def order() -> None:
    orders.inc()
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "crew.py").write_text(PROVIDER)
    return tmp_path


@pytest.fixture
def hub():
    with FaultyHub(token="token", hold=0.05) as hub:
        yield hub


@pytest.fixture
def start(folder, hub):
    """Return a function that starts a provider with several workers."""
    started = []

    def start(workers=3, **environ):
        environ = {
            "PROVIDER_AUTH_TOKEN": "token",
            "HUB_GRPC_URL": hub.url,
            "ARBPROV_WORKERS": str(workers),
            "ARBPROV_CONCURRENCY": "2",
        } | environ
        started.append(Process(["-m", "arbprov", "run", "crew"], folder, **environ))
        return started[-1]

    yield start
    (folder / "go").touch()
    for provider in started:
        if provider.popen.poll() is None:
            provider.send(signal.SIGTERM)
        provider.wait()


@pytest.fixture
def watch(start):
    """Return a function that starts a provider that is monitored, and returns its pages."""

    def watch(**environ):
        provider = start(**({"ARBPROV_MONITORING": "127.0.0.1:0"} | environ))
        return provider, Pages(wait_until(lambda: address_in(provider.log)))

    return watch


def until_slots(pages, slots):
    pages.until_value("arbprov_slots", is_so=lambda found: found == slots)


def test_the_page_is_the_sum_of_the_workers(watch, hub):
    _, pages = watch()
    until_slots(pages, 6)
    for _ in range(12):
        hub.call("who")
    samples = pages.scrape()
    assert samples["arbprov_tasks_total"] == {("success", "who"): 12}
    assert samples["arbprov_task_duration_seconds_count"] == {("who",): 12}
    assert samples["arbprov_hub_connected"] == {(): 3}


def test_counters_never_fall_when_a_worker_is_killed(watch, hub):
    _, pages = watch()
    until_slots(pages, 6)
    pids = [hub.call("who").data["pid"] for _ in range(10)]
    before = pages.scrape()
    os.kill(pids[-1], signal.SIGKILL)
    seen = [before]

    def is_replaced():
        seen.append(pages.scrape())
        return pids[-1] not in seen[-1] and len(seen) > 20 and seen[-1]["arbprov_slots"][()] == 6

    wait_until(is_replaced)
    for _ in range(10):
        hub.call("who")
    seen.append(pages.scrape())
    for name in ("arbprov_tasks_total", "arbprov_task_duration_seconds_count"):
        totals = [sum(samples[name].values()) for samples in seen]
        assert totals == sorted(totals)
        assert (totals[0], totals[-1]) == (10, 20)


def test_the_gauges_of_a_killed_worker_are_gone_at_once(watch, hub):
    provider, pages = watch()
    until_slots(pages, 6)
    victim = hub.call("who").data["pid"]
    provider.send(signal.SIGSTOP)  # so that it starts no other worker
    os.kill(victim, signal.SIGKILL)
    provider.send(signal.SIGCONT)
    until_slots(pages, 4)
    until_slots(pages, 6)


def test_the_author_s_own_counters_are_added_up_too(watch, hub, folder):
    (folder / "crew.py").write_text(PROVIDER + OWN)
    _, pages = watch()
    until_slots(pages, 6)
    for _ in range(10):
        hub.call("order")
    assert pages.value("shop_orders_total") == 10


def test_the_app_s_argument_is_served_too(start, hub, folder):
    source = PROVIDER.replace('"crew", ', '"crew", monitoring="127.0.0.1:0", ')
    (folder / "crew.py").write_text(source)
    provider = start()
    pages = Pages(wait_until(lambda: address_in(provider.log)))
    until_slots(pages, 6)
    hub.call("who")
    assert pages.value("arbprov_tasks_total", "who", "success") == 1


def test_the_app_s_argument_is_refused_by_name_when_it_comes_too_late(start, folder):
    source = PROVIDER.replace('"crew", ', '"crew", monitoring="127.0.0.1:0", ')
    (folder / "crew.py").write_text(source + OWN)
    provider = start()
    assert provider.wait() == 78
    assert provider.log.count("set ARBPROV_MONITORING instead of monitoring=") == 1


def test_a_taken_port_ends_all_workers_with_exit_code_78(start):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        provider = start(ARBPROV_MONITORING=f"127.0.0.1:{taken.getsockname()[1]}")
        assert provider.wait() == 78
    assert provider.log.count("can't listen there, Address already in use") == 1


def test_the_provider_is_ready_while_one_worker_is_and_started_once_one_has(watch, hub):
    _, pages = watch()
    pages.until("/readyz", 200)
    assert [pages.ask(path) for path in ("/livez", "/startupz")] == [(200, "ok")] * 2
    until_slots(pages, 6)
    hub.stop()
    reason = pages.until("/readyz", 503)
    assert reason.count("the hub does not answer") == reason.count("worker ") == 3
    assert pages.ask("/livez") == (200, "ok")


def test_workers_that_drain_are_alive_and_not_ready(watch, hub, folder):
    provider, pages = watch()
    until_slots(pages, 6)
    for _ in range(6):
        hub.put("wait_for_file")
    pages.until_value("arbprov_tasks_in_flight", is_so=lambda tasks: tasks == 6)
    provider.send(signal.SIGTERM)
    assert pages.until("/readyz", 503).count("it is draining") == 3
    assert pages.ask("/livez") == (200, "ok")


@pytest.mark.slow
def test_a_worker_whose_event_loop_hangs_is_named(watch, hub, folder):
    _, pages = watch(workers=2)
    until_slots(pages, 4)
    hub.put("hang")
    reason = pages.until("/livez", 503)
    assert "the event loop has not turned for 5 s" in reason
    assert reason.count("worker ") == 1
    assert pages.ask("/readyz") == (200, "ok")
    (folder / "go").touch()
    pages.until("/livez", 200)


def test_without_a_temporary_folder_there_is_health_and_no_metrics(watch, tmp_path):
    _, pages = watch(TMPDIR=str(tmp_path / "missing"), TEMP="/dev/null", TMP="/dev/null")
    pages.until("/readyz", 200)
    assert pages.ask("/metrics")[0] in {200, 501}


def test_without_monitoring_the_supervisor_imports_nothing_of_it():
    code = """
import sys
import arbprov.cli.supervisor.supervisor
loaded = {"prometheus_client", "http.server", "grpc"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=TIMEOUT)


# A worker's reports.


@pytest.fixture
def channel():
    ours, theirs = socket.socketpair()
    with ours:
        channel = ControlChannel(theirs.detach(), 25.0, "crew")
        yield channel, ours
        channel._socket.close()


def test_a_worker_reports_where_to_serve_and_its_health(channel):
    worker, supervisor = channel
    worker.serve("127.0.0.1:9100")
    worker.beat(True, 'it "drains"\n')
    lines = supervisor.recv(1000).decode().splitlines()
    assert lines == ["serve 127.0.0.1:9100", 'beat [true, "it \\"drains\\"\\n"]']


def test_a_report_never_waits_for_a_supervisor_that_does_not_read(channel):
    worker, _ = channel
    reporting = threading.Thread(
        target=lambda: [worker.beat(True, "x" * 1000) for _ in range(2_000)]
    )
    reporting.start()
    reporting.join(TIMEOUT)
    assert not reporting.is_alive()


def test_a_report_to_a_supervisor_that_is_gone_is_not_an_error(channel):
    worker, supervisor = channel
    supervisor.close()
    worker.serve("127.0.0.1:9100")
    worker.beat(True, "")


# The supervisor's part.


def test_a_worker_s_address_health_and_variables_are_those_of_its_process():
    served = []
    code = (
        "import os, sys; os.write(int(sys.argv[1]), "
        "b'serve 127.0.0.1:9100\\nbeat [true, \"' + os.environb[b'REASON'] + b'\"]\\n')"
    )

    async def story():
        worker = await WorkerProcess.start(
            [sys.executable, "-c", code], print, served.append, {"REASON": "it is draining"}
        )
        before = worker.beat
        await worker.wait()
        return before, worker.beat, worker.beat_at

    started_at = time.monotonic()
    before, beat, beat_at = asyncio.run(story())
    assert (served, before, beat) == (["127.0.0.1:9100"], None, Beat(True, "it is draining"))
    assert started_at <= beat_at <= time.monotonic()


class Crew:
    is_stopping = False

    def __init__(self, *workers):
        self.workers = dict(enumerate(workers, 1))


class FakeWorker:
    pid = 4711
    beat = None
    beat_at = 0.0


def test_a_second_worker_s_report_changes_nothing(tmp_path, caplog):
    caplog.set_level("INFO", "arbprov")

    async def story():
        monitoring = Monitoring(str(tmp_path))
        with monitoring.watch(Crew()):
            monitoring.serve(Crew(), "127.0.0.1:0")
            monitoring.serve(Crew(), "127.0.0.1:0")

    asyncio.run(story())
    assert len(caplog.messages) == 1


def test_the_counts_of_a_process_that_has_ended_are_kept_from_then_on(tmp_path):
    async def story():
        monitoring = Monitoring(str(tmp_path))
        (tmp_path / "metrics").mkdir()
        write(tmp_path / "metrics", f"counter_{ENDED}.db", 5.0)
        with monitoring.watch(Crew()):
            monitoring.serve(Crew(), "127.0.0.1:0")
            monitoring.forget(ENDED)

    asyncio.run(story())
    assert [path.name for path in (tmp_path / "metrics").iterdir()] == ["counter_ended.db"]


def test_without_a_folder_for_files_there_is_health_only(caplog):
    caplog.set_level("INFO", "arbprov")

    async def story():
        monitoring = Monitoring("")
        crew = Crew(FakeWorker())
        with monitoring.watch(crew):
            monitoring.serve(crew, "127.0.0.1:0")
            monitoring.forget(1)
            pages = Pages(caplog.messages[0].rpartition("/")[2])
            return [await asyncio.to_thread(pages.ask, p) for p in ("/livez", "/metrics")]

    (live, metrics) = asyncio.run(story())
    assert (live, metrics[0]) == ((200, "ok"), 501)


def test_the_workers_know_where_to_keep_metrics_only_with_monitoring(tmp_path, monkeypatch):
    monkeypatch.delenv("ARBPROV_MONITORING", raising=False)
    (tmp_path / "off").mkdir()
    assert Monitoring(str(tmp_path / "off")).environ == {}
    monkeypatch.setenv("ARBPROV_MONITORING", "127.0.0.1:0")
    (tmp_path / "on").mkdir()
    assert Monitoring(str(tmp_path / "on")).environ == {
        "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "on/metrics")
    }


def test_systemd_hears_of_the_workers(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

        async def story():
            crew, worker = Crew(FakeWorker()), FakeWorker()
            loop = asyncio.get_running_loop()
            with Monitoring("").watch(crew):
                heard = [await loop.sock_recv(systemd, 1000)]
                crew.workers[1] = worker
                # Its last sign of life is long ago.
                worker.beat = Beat(True, "")
                heard.append(await loop.sock_recv(systemd, 1000))
                crew.is_stopping = True
                heard.append(await loop.sock_recv(systemd, 1000))
            return heard

        assert asyncio.run(story()) == [b"WATCHDOG=1", b"READY=1", b"STOPPING=1"]


@pytest.fixture
def reported(monkeypatch):
    """Return a function that runs an app as a worker, and returns what it reports health with."""

    class Channel:
        def __init__(self, descriptor, drain_timeout, provider):
            pass

        def on_stop(self, stop):
            pass

        def serve(self, address):
            pass

        def beat(self, has_started, unready):
            pass

    process = multiprocessing.current_process()
    monkeypatch.setattr(process, "name", process.name)  # `run_worker` changes it
    monkeypatch.setattr("arbprov.cli.supervisor.worker.ControlChannel", Channel)
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)

    def run(folder="", **options):
        app, given = ProviderApp("crew", **options), []
        monkeypatch.setattr(app, "_run_with", lambda hooks, report, **changes: given.append(report))
        run_worker(app, WorkerInfo(2, 3, "run", folder, -1))
        return given[0]

    return run


def test_a_worker_reports_its_health_when_systemd_watches(reported, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    assert reported() is not None


def test_a_worker_without_monitoring_reports_no_health(reported):
    assert reported() is None


def test_a_worker_without_a_folder_for_metrics_reports_its_health(reported):
    assert reported(monitoring="127.0.0.1:0") is not None


def test_a_worker_that_knows_of_the_monitoring_too_late_is_refused(reported, tmp_path):
    with pytest.raises(ConfigurationError, match="set ARBPROV_MONITORING instead of monitoring="):
        reported(str(tmp_path), monitoring="127.0.0.1:0")


def test_a_worker_keeps_its_metrics_where_the_supervisor_says(reported, tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    assert reported(str(tmp_path), monitoring="127.0.0.1:0") is not None


def test_a_worker_keeps_its_metrics_in_the_folder_of_all_workers(reported, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "prometheus_client")
    reported(str(tmp_path), monitoring="127.0.0.1:0")
    assert os.environ.pop("PROMETHEUS_MULTIPROC_DIR") == str(tmp_path / "metrics")


# The files.


def write(folder, name, value, kind="counter", labels=()):
    """Leave a value in the file of a process, as prometheus-client does."""
    path = folder / name
    values = MmapedDict(str(path))
    key = mmap_key("jobs", "jobs_total", list(dict(labels)), list(dict(labels).values()), "Jobs.")
    values.write_value(key, value, 0.0)
    values.close()


ENDED = 2**22 + 1  # no process has such a number


def jobs(totals):
    return parse(totals.render().decode())["jobs_total"]


def test_the_counts_of_processes_that_have_ended_are_kept_in_one_file(tmp_path):
    totals = Totals(tmp_path)
    for number, pid in enumerate((ENDED, ENDED + 1, ENDED + 2), 1):
        write(tmp_path, f"counter_{pid}.db", 10.0 * number)
        totals.forget(pid)
    assert [path.name for path in tmp_path.iterdir()] == ["counter_ended.db"]
    assert jobs(totals) == {(): 60.0}


def test_a_process_that_ended_unseen_is_found_at_the_next_scrape(tmp_path):
    write(tmp_path, f"counter_{ENDED}.db", 5.0)
    write(tmp_path, f"gauge_livesum_{ENDED}.db", 7.0)
    write(tmp_path, f"counter_{os.getpid()}.db", 1.0)
    assert jobs(Totals(tmp_path)) == {(): 6.0}
    assert {path.name for path in tmp_path.iterdir()} == {
        "counter_ended.db",
        f"counter_{os.getpid()}.db",
    }


def test_the_files_of_a_process_of_another_user_are_kept(tmp_path, monkeypatch):
    def refuse(pid, number):
        raise PermissionError

    monkeypatch.setattr("arbprov.instrumentation.totals.os.kill", refuse)
    write(tmp_path, f"counter_{ENDED}.db", 5.0)
    assert jobs(Totals(tmp_path)) == {(): 5.0}
    assert [path.name for path in tmp_path.iterdir()] == [f"counter_{ENDED}.db"]


def test_a_file_that_can_not_be_added_up_is_logged_and_dropped(tmp_path, caplog):
    (tmp_path / f"counter_{ENDED}.db").write_bytes(b"x")
    totals = Totals(tmp_path)
    write(tmp_path, f"counter_{os.getpid()}.db", 1.0)
    assert jobs(totals) == {(): 1.0}
    assert jobs(totals) == {(): 1.0}
    assert caplog.messages == [f"the metrics of process {ENDED} could not be added up"]


@pytest.mark.parametrize("find_pid", [lambda: ENDED, os.getpid], ids=["ended", "running"])
def test_a_file_without_anything_in_it_yet_is_not_an_error(tmp_path, caplog, find_pid):
    (tmp_path / f"counter_{find_pid()}.db").touch()
    assert Totals(tmp_path).render() == b""
    assert caplog.messages == []


def test_without_prometheus_client_there_are_no_totals(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", "arbprov")
    monkeypatch.setitem(sys.modules, "arbprov.instrumentation.totals", None)
    assert make_totals(tmp_path) is None
    assert caplog.messages == ["there are no metrics, since prometheus-client is not installed"]
