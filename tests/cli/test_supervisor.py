"""The supervisor of several workers, on a virtual clock and with workers that only say they run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading

import pytest
from support.loops import JumpingLoop, run_jumping

from arbprov.cli.supervisor.control_channel import SupervisorLink, read_stage
from arbprov.cli.supervisor.restart_policy import Pauses, Stage, final_code
from arbprov.cli.supervisor.supervisor import Supervisor

STARTING, AT_WORK, CONNECTED = Stage
KILLED = -signal.SIGKILL


class FakeWorker:
    """A worker that ends when a test says so, or when it is told to."""

    def __init__(self, number, pid, on_stage, drain=25.0):
        self.number, self.pid, self.drain_timeout = number, pid, 0.0
        self.stage = STARTING
        self.told = []
        # What it ends with when it is told to stop; None if it does not.
        self.stops_with = 0
        self._on_stage = on_stage
        self._drain = drain
        self._code = asyncio.get_running_loop().create_future()

    def comes_to(self, stage):
        self.stage, self.drain_timeout = stage, self._drain
        self._on_stage(stage)

    def ends(self, code):
        if not self._code.done():
            self._code.set_result(code)

    async def ended(self):
        return await self._code

    def stop(self):
        self.told.append("stop")
        if self.stops_with is not None:
            self.ends(self.stops_with)

    def kill(self):
        self.told.append("kill")
        self.ends(KILLED)


class Crew:
    """A supervisor at work, and the workers that it has started."""

    def __init__(self, count):
        self.workers = []
        # Errors of the next starts.
        self.no_room = 0
        self.while_starting = lambda: None
        self.supervisor = Supervisor(self._start, count)
        self.loop = asyncio.get_running_loop()
        self.run = self.loop.create_task(self.supervisor.run())

    async def _start(self, number, on_stage):
        self.while_starting()
        if self.no_room:
            self.no_room -= 1
            raise BlockingIOError(11, "Resource temporarily unavailable")
        self.workers.append(FakeWorker(number, 100 + len(self.workers), on_stage))
        return self.workers[-1]

    @property
    def numbers(self):
        return [worker.number for worker in self.workers]

    async def started(self, count):
        """Wait until so many workers were started, and return the last one."""
        while len(self.workers) < count:
            await asyncio.sleep(0.01)
        return self.workers[count - 1]

    async def at_work(self):
        """Have the first worker, and then the others, come as far as they can."""
        (await self.started(1)).comes_to(AT_WORK)
        self.workers[0].comes_to(CONNECTED)
        await settled()
        for worker in self.workers[1:]:
            worker.comes_to(AT_WORK)
            worker.comes_to(CONNECTED)


async def settled():
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
def supervised():
    """Return what runs a test's coroutine with a crew, in a loop whose time jumps."""

    def run(story, count=2):
        async def main():
            return await story(Crew(count))

        return run_jumping(main(), JumpingLoop())

    return run


# The start


def test_the_others_start_when_the_first_has_reached_the_hub(supervised):
    async def story(crew):
        first = await crew.started(1)
        first.comes_to(AT_WORK)
        await settled()
        before = crew.numbers
        first.comes_to(CONNECTED)
        await settled()
        return before, crew.numbers

    assert supervised(story, count=3) == ([1], [1, 2, 3])


def test_the_others_wait_no_longer_than_a_second_for_a_hub_that_holds_the_first_poll(supervised):
    async def story(crew):
        (await crew.started(1)).comes_to(AT_WORK)
        began = crew.loop.time()
        await crew.started(2)
        return crew.loop.time() - began

    assert supervised(story) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("code", [1, 2, 69, 77, 78])
def test_a_start_that_fails_is_the_end_and_no_word_of_the_supervisor(supervised, caplog, code):
    async def story(crew):
        (await crew.started(1)).ends(code)
        return await crew.run, crew.numbers

    assert supervised(story) == (code, [1])
    assert caplog.messages == []


def test_a_first_worker_that_is_killed_before_it_works_is_the_end(supervised, caplog):
    async def story(crew):
        (await crew.started(1)).ends(-signal.SIGSEGV)
        return await crew.run

    assert supervised(story) == 1
    assert caplog.messages == ["worker 1 (pid 100) was killed by SIGSEGV, so all end"]


def test_a_signal_during_the_start_starts_no_others(supervised):
    async def story(crew):
        await crew.started(1)
        crew.supervisor.interrupt(signal.SIGTERM)
        return await crew.run, crew.numbers

    assert supervised(story) == (0, [1])


@pytest.mark.parametrize(("signals", "told"), [(1, ["stop"]), (2, ["kill"])])
def test_a_worker_that_starts_while_the_signal_comes_is_told_too(supervised, signals, told):
    async def story(crew):
        def interrupt():
            for _ in range(signals):
                crew.supervisor.interrupt(signal.SIGTERM)

        crew.while_starting = interrupt
        await crew.run
        return crew.workers[0].told

    assert supervised(story) == told


# Those that die


def test_a_worker_that_dies_is_replaced_and_one_line_says_how_and_when(supervised, caplog):
    async def story(crew):
        await crew.at_work()
        crew.workers[1].ends(KILLED)
        began = crew.loop.time()
        third = await crew.started(3)
        return third.number, crew.loop.time() - began

    assert supervised(story) == (2, pytest.approx(0.5, abs=0.02))
    (line,) = caplog.messages
    assert line == (
        "worker 2 (pid 101) was killed by SIGKILL, as the system does when memory runs out; "
        "another starts in 0.5 s"
    )


async def pauses_of(crew, lives):
    """Return the pauses after workers that run for so many seconds each."""
    await crew.at_work()
    found = []
    for number, seconds in enumerate(lives, start=2):
        worker = await crew.started(number)
        await asyncio.sleep(seconds)
        worker.comes_to(AT_WORK)
        worker.ends(1)
        began = crew.loop.time()
        await crew.started(number + 1)
        found.append(round(crew.loop.time() - began, 1))
    return found


def test_the_pauses_double_from_half_a_second_to_thirty(supervised):
    pauses = supervised(lambda crew: pauses_of(crew, [1] * 8))
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_a_worker_that_ran_well_for_a_minute_begins_the_pauses_anew(supervised):
    pauses = supervised(lambda crew: pauses_of(crew, [1, 1, 1, 59, 60, 1]))
    assert pauses == [0.5, 1, 2, 4, 0.5, 1]


def test_a_worker_that_can_not_be_started_is_tried_again(supervised, caplog):
    async def story(crew):
        await crew.at_work()
        crew.no_room = 2
        crew.workers[1].ends(KILLED)
        return (await crew.started(3)).number

    assert supervised(story) == 2
    assert caplog.messages[1:] == [
        "worker 2 can't be started: [Errno 11] Resource temporarily unavailable; another "
        f"starts in {pause} s"
        for pause in (1, 2)
    ]


def test_a_stop_waits_for_no_pause(supervised):
    async def story(crew):
        await crew.at_work()
        crew.workers[1].ends(KILLED)
        await settled()
        began = crew.loop.time()
        crew.supervisor.interrupt(signal.SIGTERM)
        return await crew.run, crew.loop.time() - began

    assert supervised(story) == (0, 0)


@pytest.mark.parametrize("code", [77, 78])
def test_what_no_other_try_can_mend_ends_all_well(supervised, caplog, code):
    async def story(crew):
        await crew.at_work()
        crew.workers[1].ends(code)
        return await crew.run, crew.workers[0].told

    assert supervised(story) == (code, ["stop"])
    assert caplog.messages == [f"worker 2 (pid 101) ended with exit code {code}, so all end"]


def test_workers_that_end_for_one_cause_are_told_of_once(supervised, caplog):
    async def story(crew):
        await crew.at_work()
        crew.workers[0].stops_with = 77
        crew.workers[1].ends(77)
        return await crew.run

    assert supervised(story) == 77
    assert caplog.messages == ["worker 2 (pid 101) ended with exit code 77, so all end"]


@pytest.mark.parametrize(
    ("code", "stage", "furthest", "final"),
    [
        (KILLED, STARTING, CONNECTED, None),
        (KILLED, AT_WORK, AT_WORK, None),
        (0, CONNECTED, CONNECTED, None),
        (0, STARTING, STARTING, 0),
        (1, STARTING, CONNECTED, 1),
        (1, CONNECTED, CONNECTED, None),
        (69, AT_WORK, AT_WORK, 69),
        (69, AT_WORK, CONNECTED, None),
        (2, STARTING, CONNECTED, 2),
        (77, CONNECTED, CONNECTED, 77),
    ],
)
def test_an_end_is_final_if_another_worker_would_fare_no_better(code, stage, furthest, final):
    assert final_code(code, stage, furthest) == final


def test_two_series_of_pauses_do_not_touch_each_other():
    one, another = Pauses(), Pauses()
    assert [one.after(1), one.after(1), another.after(1)] == [0.5, 1, 0.5]


# The stop


def test_a_signal_tells_each_worker_once_and_all_end(supervised, caplog):
    caplog.set_level(logging.INFO)

    async def story(crew):
        await crew.at_work()
        crew.supervisor.interrupt(signal.SIGINT)
        return await crew.run, [worker.told for worker in crew.workers]

    assert supervised(story) == (0, [["stop"], ["stop"]])
    assert caplog.messages == ["SIGINT: the workers finish what is begun; again to end them now"]


def test_a_worker_that_does_not_end_well_at_the_stop_is_told_of(supervised, caplog):
    async def story(crew):
        await crew.at_work()
        crew.workers[1].stops_with = 1
        crew.supervisor.interrupt(signal.SIGTERM)
        return await crew.run

    assert supervised(story) == 1
    assert caplog.messages == ["worker 2 (pid 101) ended with exit code 1 at the stop"]


def test_a_worker_that_was_starting_has_nothing_to_finish(supervised, caplog):
    async def story(crew):
        await crew.at_work()
        crew.workers[1].stage = STARTING
        crew.workers[1].stops_with = -signal.SIGTERM
        crew.supervisor.interrupt(signal.SIGTERM)
        return await crew.run

    assert supervised(story) == 0
    assert caplog.messages == []


def test_a_worker_that_does_not_stop_is_killed_two_seconds_after_its_time(supervised, caplog):
    async def story(crew):
        await crew.at_work()
        crew.workers[1].stops_with = None
        began = crew.loop.time()
        crew.supervisor.interrupt(signal.SIGTERM)
        return await crew.run, crew.loop.time() - began

    assert supervised(story) == (1, pytest.approx(27.0))
    assert caplog.messages == ["worker 2 (pid 101) did not stop, and is killed"]


def test_a_worker_that_has_come_to_work_during_the_stop_has_its_time(supervised):
    async def story(crew):
        first = await crew.started(1)
        first.stops_with = None
        crew.supervisor.interrupt(signal.SIGTERM)
        await asyncio.sleep(1)
        first.comes_to(AT_WORK)
        await asyncio.sleep(20)
        first.ends(0)
        return await crew.run

    assert supervised(story) == 0


def test_a_second_signal_kills_all_and_fails(supervised, caplog):
    async def story(crew):
        await crew.at_work()
        for worker in crew.workers:
            worker.stops_with = None
        crew.supervisor.interrupt(signal.SIGTERM)
        await settled()
        crew.supervisor.interrupt(signal.SIGTERM)
        return await crew.run, [worker.told[:2] for worker in crew.workers]

    assert supervised(story) == (1, [["stop", "kill"]] * 2)
    assert caplog.messages == []


def test_an_error_that_nobody_expected_is_not_swallowed(supervised):
    async def story(crew):
        def fail():
            raise ZeroDivisionError

        await crew.at_work()
        crew.while_starting = fail
        crew.workers[1].ends(KILLED)
        with pytest.raises(ZeroDivisionError):
            await crew.run
        return crew.workers[0].told

    assert supervised(story)[0] == "stop"


# The link


@pytest.fixture
def link():
    """A worker's link, the supervisor's end of it, and what was stopped."""
    ours, theirs = socket.socketpair()
    theirs.set_inheritable(True)
    stopped = threading.Event()
    link = SupervisorLink(theirs.detach(), 25.0)
    link.listen(stopped.set)
    with ours:
        yield link, ours, stopped
        # So that it logs nothing in the next test.
        with contextlib.suppress(OSError):
            ours.sendall(b"stop\n")
        assert stopped.wait(20)
    link._socket.close()


def test_what_a_worker_starts_inherits_no_link(link):
    assert not link[0]._socket.get_inheritable()


def test_a_worker_tells_how_far_it_has_come_and_how_long_its_stop_may_take(link):
    link[0].tell(Stage.CONNECTED)
    assert read_stage(link[1].recv(100)) == (Stage.CONNECTED, 25.0)


def test_a_worker_that_is_told_to_stop_says_nothing(link, caplog):
    link[1].sendall(b"stop\n")
    assert link[2].wait(20)
    assert caplog.messages == []


@pytest.mark.parametrize("unread", [False, True])
def test_a_worker_whose_supervisor_is_gone_says_so_and_stops(link, caplog, unread):
    if unread:
        link[0].tell(Stage.AT_WORK)
    link[1].close()
    assert link[2].wait(20)
    assert caplog.messages == ["the supervisor is gone: finishing what is begun"]


def test_a_worker_tells_a_supervisor_that_is_gone_nothing(link):
    link[1].close()
    assert link[2].wait(20)
    link[0].tell(Stage.CONNECTED)
    link[0].tell(Stage.CONNECTED)
