"""The supervisor, on a virtual clock and with fake workers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading

import pytest
from support.loops import JumpingLoop, run_jumping
from support.waiting import TIMEOUT

from arbprov.cli.supervisor.control_channel import ControlChannel, parse_report
from arbprov.cli.supervisor.restart_policy import RestartDelays, Stage, final_exit_code
from arbprov.cli.supervisor.supervisor import Supervisor
from arbprov.errors import ConfigurationError

STARTING, RUNNING, CONNECTED = Stage
KILLED = -signal.SIGKILL


class FakeWorker:
    """A worker that exits when a test calls `exit`, or when it is stopped or killed."""

    def __init__(self, number, pid, on_stage, drain=25.0):
        self.number, self.pid, self.drain_timeout = number, pid, 0.0
        self.stage = STARTING
        self.calls = []
        # The exit code after `stop`; None to run on.
        self.stops_with = 0
        self._on_stage = on_stage
        self._drain = drain
        self._code = asyncio.get_running_loop().create_future()

    def reach(self, stage):
        self.stage, self.drain_timeout = stage, self._drain
        self._on_stage(stage)

    async def connect(self):
        self.reach(RUNNING)
        self.reach(CONNECTED)

    def exit(self, code):
        if not self._code.done():
            self._code.set_result(code)

    async def wait(self):
        return await self._code

    def stop(self):
        self.calls.append("stop")
        if self.stops_with is not None:
            self.exit(self.stops_with)

    def kill(self):
        self.calls.append("kill")
        self.exit(KILLED)


class Crew:
    """A running supervisor and the workers that it has started."""

    def __init__(self, count):
        self.workers = []
        # How many of the next starts fail.
        self.failing_starts = 0
        self.while_starting = lambda: None
        # The processes that have ended.
        self.ended = []
        self.supervisor = Supervisor(self._start, count, self.ended.append)
        self.loop = asyncio.get_running_loop()
        self.run = self.loop.create_task(self.supervisor.run())

    async def _start(self, number, on_stage):
        self.while_starting()
        if self.failing_starts:
            self.failing_starts -= 1
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.workers.append(FakeWorker(number, 100 + len(self.workers), on_stage))
        return self.workers[-1]

    @property
    def numbers(self):
        return [worker.number for worker in self.workers]

    async def started(self, count):
        """Wait until `count` workers were started, and return the last one."""
        while len(self.workers) < count:
            await asyncio.sleep(0.01)
        return self.workers[count - 1]

    async def connect_all(self):
        """Let the first worker, and then the others, reach the last stage."""
        (await self.started(1)).reach(RUNNING)
        self.workers[0].reach(CONNECTED)
        await run_loop()
        for worker in self.workers[1:]:
            worker.reach(RUNNING)
            worker.reach(CONNECTED)


async def run_loop():
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def supervised():
    """Return a function that runs a coroutine function with a crew, in a loop whose time jumps."""

    def run(story, count=2):
        async def main():
            return await story(Crew(count))

        return run_jumping(main(), JumpingLoop())

    return run


# The start


def test_the_other_workers_start_when_the_first_is_connected(supervised):
    async def story(crew):
        first = await crew.started(1)
        first.reach(RUNNING)
        await run_loop()
        before = crew.numbers
        first.reach(CONNECTED)
        await run_loop()
        return before, crew.numbers

    assert supervised(story, count=3) == ([1], [1, 2, 3])


def test_the_other_workers_wait_at_most_a_second_for_a_first_poll_that_the_hub_holds(supervised):
    async def story(crew):
        (await crew.started(1)).reach(RUNNING)
        started_at = crew.loop.time()
        await crew.started(2)
        return crew.loop.time() - started_at

    assert supervised(story) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("code", [1, 2, 69, 77, 78])
def test_a_failed_first_start_ends_all_without_a_log_line_of_the_supervisor(
    supervised, caplog, code
):
    async def story(crew):
        (await crew.started(1)).exit(code)
        return await crew.run, crew.numbers

    assert supervised(story) == (code, [1])
    assert caplog.messages == []


def test_a_first_worker_that_is_killed_while_it_starts_ends_all(supervised, caplog):
    async def story(crew):
        (await crew.started(1)).exit(-signal.SIGSEGV)
        return await crew.run

    assert supervised(story) == 1
    assert caplog.messages == ["worker 1 (pid 100) was killed by SIGSEGV; stopping all workers"]


def test_a_signal_during_the_first_start_starts_no_other_worker(supervised):
    async def story(crew):
        await crew.started(1)
        crew.supervisor.interrupt(signal.SIGTERM)
        return await crew.run, crew.numbers

    assert supervised(story) == (0, [1])


@pytest.mark.parametrize(("signals", "calls"), [(1, ["stop"]), (2, ["kill"])])
def test_a_worker_that_starts_when_the_signal_arrives_is_stopped_too(supervised, signals, calls):
    async def story(crew):
        def interrupt():
            for _ in range(signals):
                crew.supervisor.interrupt(signal.SIGTERM)

        crew.while_starting = interrupt
        await crew.run
        return crew.workers[0].calls

    assert supervised(story) == calls


# Restarts


def test_a_worker_that_dies_is_replaced_and_logged_in_one_line(supervised, caplog):
    async def story(crew):
        await crew.connect_all()
        crew.workers[1].exit(KILLED)
        started_at = crew.loop.time()
        third = await crew.started(3)
        return third.number, crew.loop.time() - started_at

    assert supervised(story) == (2, pytest.approx(0.5, abs=0.02))
    (line,) = caplog.messages
    assert line == (
        "worker 2 (pid 101) was killed by SIGKILL, as the system does when memory runs out; "
        "restarting it in 0.5 s"
    )


async def delays_after(crew, lives):
    """Return the delays after workers that run for these numbers of seconds."""
    await crew.connect_all()
    found = []
    for number, seconds in enumerate(lives, start=2):
        worker = await crew.started(number)
        await asyncio.sleep(seconds)
        worker.reach(RUNNING)
        worker.exit(1)
        started_at = crew.loop.time()
        await crew.started(number + 1)
        found.append(round(crew.loop.time() - started_at, 1))
    return found


def test_the_delays_double_from_half_a_second_to_thirty(supervised):
    delays = supervised(lambda crew: delays_after(crew, [1] * 8))
    assert delays == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_worker_that_ran_for_a_minute_resets_the_delay(supervised):
    delays = supervised(lambda crew: delays_after(crew, [1, 1, 1, 59, 60, 1]))
    assert delays == [0.5, 1, 2, 4, 0.5, 1]


def test_a_failed_restart_is_retried(supervised, caplog):
    async def story(crew):
        await crew.connect_all()
        crew.failing_starts = 2
        crew.workers[1].exit(KILLED)
        return (await crew.started(3)).number

    assert supervised(story) == 2
    assert caplog.messages[1:] == [
        "worker 2 can't be started: [Errno 11] Resource temporarily unavailable; "
        f"restarting it in {delay} s"
        for delay in (1, 2)
    ]


def test_a_stop_does_not_wait_for_a_delay(supervised):
    async def story(crew):
        await crew.connect_all()
        crew.workers[1].exit(KILLED)
        await run_loop()
        started_at = crew.loop.time()
        crew.supervisor.interrupt(signal.SIGTERM)
        return await crew.run, crew.loop.time() - started_at

    assert supervised(story) == (0, 0)


@pytest.mark.parametrize("code", [77, 78])
def test_an_error_that_a_restart_can_not_fix_stops_all_workers(supervised, caplog, code):
    async def story(crew):
        await crew.connect_all()
        crew.workers[1].exit(code)
        return await crew.run, crew.workers[0].calls

    assert supervised(story) == (code, ["stop"])
    assert caplog.messages == [
        f"worker 2 (pid 101) ended with exit code {code}; stopping all workers"
    ]


def test_workers_that_exit_for_the_same_reason_are_logged_once(supervised, caplog):
    async def story(crew):
        await crew.connect_all()
        crew.workers[0].stops_with = 77
        crew.workers[1].exit(77)
        return await crew.run

    assert supervised(story) == 77
    assert caplog.messages == ["worker 2 (pid 101) ended with exit code 77; stopping all workers"]


@pytest.mark.parametrize(
    ("code", "stage", "furthest", "final"),
    [
        (KILLED, STARTING, CONNECTED, None),
        (KILLED, RUNNING, RUNNING, None),
        (0, CONNECTED, CONNECTED, None),
        (0, STARTING, STARTING, 0),
        (1, STARTING, CONNECTED, 1),
        (1, CONNECTED, CONNECTED, None),
        (69, RUNNING, RUNNING, 69),
        (69, RUNNING, CONNECTED, None),
        (2, STARTING, CONNECTED, 2),
        (77, CONNECTED, CONNECTED, 77),
    ],
)
def test_an_exit_is_final_if_a_restart_would_end_the_same_way(code, stage, furthest, final):
    assert final_exit_code(code, stage, furthest) == final


def test_each_worker_has_its_own_delays():
    first, second = RestartDelays(), RestartDelays()
    assert [first.next(1), first.next(1), second.next(1)] == [0.5, 1, 0.5]


# The stop


def test_a_signal_stops_each_worker_once(supervised, caplog):
    caplog.set_level(logging.INFO)

    async def story(crew):
        await crew.connect_all()
        crew.supervisor.interrupt(signal.SIGINT)
        return await crew.run, [worker.calls for worker in crew.workers]

    assert supervised(story) == (0, [["stop"], ["stop"]])
    assert caplog.messages == ["SIGINT: draining the workers; send the signal again to kill them"]


def test_a_worker_that_fails_during_the_stop_is_logged(supervised, caplog):
    async def story(crew):
        await crew.connect_all()
        crew.workers[1].stops_with = 1
        crew.supervisor.interrupt(signal.SIGTERM)
        return await crew.run

    assert supervised(story) == 1
    assert caplog.messages == ["worker 2 (pid 101) ended with exit code 1 during the stop"]


def test_a_worker_that_was_starting_may_end_by_sigterm(supervised, caplog):
    async def story(crew):
        await crew.connect_all()
        crew.workers[1].stage = STARTING
        crew.workers[1].stops_with = -signal.SIGTERM
        crew.supervisor.interrupt(signal.SIGTERM)
        return await crew.run

    assert supervised(story) == 0
    assert caplog.messages == []


def test_a_worker_that_does_not_stop_is_killed_two_seconds_after_its_time(supervised, caplog):
    async def story(crew):
        await crew.connect_all()
        crew.workers[1].stops_with = None
        started_at = crew.loop.time()
        crew.supervisor.interrupt(signal.SIGTERM)
        return await crew.run, crew.loop.time() - started_at

    assert supervised(story) == (1, pytest.approx(27.0))
    assert caplog.messages == ["worker 2 (pid 101) did not stop in time; killing it"]


def test_a_worker_that_runs_only_since_the_stop_has_its_drain_timeout_too(supervised):
    async def story(crew):
        first = await crew.started(1)
        first.stops_with = None
        crew.supervisor.interrupt(signal.SIGTERM)
        await asyncio.sleep(1)
        first.reach(RUNNING)
        await asyncio.sleep(20)
        first.exit(0)
        return await crew.run

    assert supervised(story) == 0


def test_a_second_signal_kills_all_workers_and_exits_with_1(supervised, caplog):
    async def story(crew):
        await crew.connect_all()
        for worker in crew.workers:
            worker.stops_with = None
        crew.supervisor.interrupt(signal.SIGTERM)
        await run_loop()
        crew.supervisor.interrupt(signal.SIGTERM)
        return await crew.run, [worker.calls[:2] for worker in crew.workers]

    assert supervised(story) == (1, [["stop", "kill"]] * 2)
    assert caplog.messages == []


def test_an_unexpected_error_is_raised(supervised):
    async def story(crew):
        def fail():
            raise ZeroDivisionError

        await crew.connect_all()
        crew.while_starting = fail
        crew.workers[1].exit(KILLED)
        with pytest.raises(ZeroDivisionError):
            await crew.run
        return crew.workers[0].calls

    assert supervised(story)[0] == "stop"


# The control channel


@pytest.fixture
def channel():
    """A worker's channel, the supervisor's end of it, and an event that is set by a stop."""
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    stopped = threading.Event()
    channel = ControlChannel(theirs.detach(), 25.0, "crew")
    channel.on_stop(stopped.set)
    with ours:
        yield channel, ours, stopped
        # So that the thread logs nothing in the next test.
        with contextlib.suppress(OSError):
            ours.sendall(b"stop\n")
        assert stopped.wait(TIMEOUT)
    channel._socket.close()


def test_programs_that_a_worker_starts_do_not_inherit_the_channel(channel):
    assert not channel[0]._socket.get_inheritable()


def test_a_worker_reports_its_stage_and_its_drain_timeout(channel):
    channel[0].report(Stage.CONNECTED)
    assert parse_report(channel[1].recv(100)) == (Stage.CONNECTED, 25.0, "crew")


def test_a_worker_that_is_stopped_logs_nothing(channel, caplog):
    channel[1].sendall(b"stop\n")
    assert channel[2].wait(TIMEOUT)
    assert caplog.messages == []


@pytest.mark.parametrize("unread", [False, True])
def test_a_worker_whose_supervisor_is_gone_logs_that_and_stops(channel, caplog, unread):
    if unread:
        channel[0].report(Stage.RUNNING)
    channel[1].close()
    assert channel[2].wait(TIMEOUT)
    assert caplog.messages == ["the supervisor is gone; draining"]


def test_a_report_to_a_supervisor_that_is_gone_is_dropped(channel):
    channel[1].close()
    assert channel[2].wait(TIMEOUT)
    channel[0].report(Stage.CONNECTED)
    channel[0].report(Stage.CONNECTED)


# What others are told.


def test_each_exit_is_told_with_the_number_of_the_process(supervised):
    async def story(crew):
        await (await crew.started(1)).connect()
        await crew.started(2)
        crew.workers[0].exit(KILLED)
        await crew.started(3)
        first = list(crew.ended)
        crew.supervisor.interrupt(signal.SIGTERM)
        await crew.run
        return first, sorted(crew.ended)

    assert supervised(story) == ([100], [100, 101, 102])


def test_a_setting_that_is_refused_stops_all_workers_and_is_logged_once(supervised, caplog):
    async def story(crew):
        await (await crew.started(1)).connect()
        await crew.started(2)
        for _ in range(2):
            crew.supervisor.refuse(ConfigurationError("the port is taken"))
        assert crew.supervisor.is_stopping
        return await crew.run

    assert supervised(story) == 78
    assert caplog.messages.count("Error: the port is taken") == 1
