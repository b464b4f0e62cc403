"""What a connector needs every day: quotas, calls in flight, tokens and retries, over real HTTP.

A sample vendor counts what reaches it. A provider of a few lines works for its accounts, and
declares 2 % less than the vendor grants. A task that was refused is submitted again, under a new
id, when its `wait_time` is over. For some accounts the declared limit is too high, and another
program has just used their quotas up: they are throttled once, and then keep to what the headers
say.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import queue
import random
import resource
import signal
import time
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import attrs
import pytest
import support
from support import vendor
from support.processes import Process
from support.redis_servers import RedisServer
from support.vendor import Counts, Terms, VendorProcess

import arbprov
from arbprov import Limit
from arbprov.localhub import LocalHub

_PACKAGES = (arbprov, support)
PROVIDER = Path(vendor.__file__).with_name("vendor_provider.py")
# The share of the vendor's quota that the provider declares.
DECLARED = 0.98
# A hub that has no result of a task by then submits it again: its provider was killed. The time of
# a handler, the time that it may have waited before, and some.
LOST_AFTER = 60.0 + 10.0 + 10.0
INTERRUPTED = "interrupted, outcome unknown"


@attrs.frozen(kw_only=True)
class Run:
    """How much is done, and by whom.

    Args:
        terms: What the vendor grants.
        tasks: The tasks of all accounts.
        workers: The processes of the provider.
        concurrency: Tasks in flight in each process.
        ahead: Tasks of an account that wait at the hub or the provider, beside those that its bound
            on calls in flight admits.
        kills: How often one of the processes is killed.
    """

    terms: Terms
    tasks: int
    workers: int
    concurrency: int
    ahead: int = 2
    kills: int = 0

    @property
    def limit(self) -> Limit:
        """The limit that the provider declares."""
        return Limit(int(self.terms.quota * DECLARED), self.terms.period)

    @property
    def full_accounts(self) -> list[str]:
        """The accounts that have the whole quota."""
        names = [f"shop-{number}" for number in range(self.terms.accounts)]
        return [name for name in names if name not in self.terms.less]

    def plan(self) -> dict[str, deque[int]]:
        """Return the pages of each task, by account."""
        accounts = self.terms.accounts
        plan = {f"shop-{number}": deque() for number in range(accounts)}
        for number in range(self.tasks):
            name = f"shop-{number % accounts}"
            plan[name].append(1 + number // accounts % (5 if name in self.terms.less else 10))
        for pages in plan.values():
            random.Random(self.terms.seed).shuffle(pages)
        return plan

    def least_seconds(self, counts: Counts) -> float:
        """Return the least seconds that the declared limits allow for the requests that were made.

        Each account has a full window at once, and another one after each period.
        """
        requests = [counts.shops[name]["requests"] for name in self.full_accounts]
        return max((one - 1) // self.limit.amount * self.limit.period for one in requests)


@attrs.define(eq=False)
class Job:
    """A task that has to be done, under whatever id."""

    account: str
    pages: int
    is_done: bool = False


@attrs.define
class Customers:
    """Submit tasks, and submit those again that were refused or interrupted, or have no result."""

    hub: LocalHub
    run: Run
    waiting: dict[str, deque[int]]
    statuses: Counter[str] = attrs.field(factory=Counter)
    wrong: list[str] = attrs.field(factory=list)
    done: int = 0
    _results: queue.SimpleQueue = attrs.field(factory=queue.SimpleQueue)
    _timers: list = attrs.field(factory=list)
    _numbers: itertools.count = attrs.field(factory=itertools.count)

    def work_off(self, look: Callable[[], object]) -> None:
        """Return when the tasks are done, or when one of them has gone wrong.

        Args:
            look: Called after each result, and each second.
        """
        for account in self.waiting:
            # One after the other where the limit is too high: no request leaves before the headers
            # of the last answer are read.
            is_one = account in self.run.terms.less
            for _ in range(1 if is_one else self.run.terms.at_once + self.run.ahead):
                self._submit_next(account)
        while self.done < self.run.tasks and not self.wrong:
            self._submit_what_is_due()
            with contextlib.suppress(queue.Empty):
                self._take(*self._results.get(timeout=min(1.0, self._pause())))
            look()

    def _submit_next(self, account: str) -> None:
        if self.waiting[account]:
            self._submit(Job(account, self.waiting[account].popleft()))

    def _submit(self, job: Job) -> None:
        account = {"id": job.account, "grant": f"{job.account}.grant"}
        ticket = self.hub.put("orders", {"pages": job.pages}, account=account)
        ticket.future.add_done_callback(lambda future: self._note(job, future))
        self._submit_later(LOST_AFTER, job, lambda: not ticket.done)

    def _note(self, job: Job, future: Future) -> None:
        # Or else the hub has stopped before the result of a task that is done under another id.
        if future.exception() is None:
            self._results.put((job, future.result()))

    def _submit_later(self, seconds, job, condition=lambda: True) -> None:
        due = time.monotonic() + seconds
        heapq.heappush(self._timers, (due, next(self._numbers), job, condition))

    def _pause(self) -> float:
        return max(0.0, self._timers[0][0] - time.monotonic())

    def _submit_what_is_due(self) -> None:
        while self._timers[0][0] <= time.monotonic():
            _, _, job, condition = heapq.heappop(self._timers)
            if condition() and not job.is_done:
                self._submit(job)

    def _take(self, job: Job, result) -> None:
        kind = "interrupted" if result.message == INTERRUPTED else result.status
        self.statuses[kind] += 1
        if job.is_done:
            return
        if kind == "limit":
            self._submit_later(result.data["wait_time"], job)
        elif kind == "interrupted":
            self._submit(job)
        elif kind == "success" and len(result.data) == job.pages:
            job.is_done = True
            self.done += 1
            self._submit_next(job.account)
        else:
            self.wrong.append(f"{result.status}: {result.result}")


@attrs.define
class Provider:
    """The processes of the provider."""

    folder: Path
    hub: LocalHub
    run: Run
    environ: dict[str, str]
    chance: random.Random
    processes: list[Process] = attrs.field(factory=list)
    killed: int = 0

    def start(self) -> None:
        if self.run.kills:
            # Each by itself, with a spool that reports its interrupted tasks.
            self.processes += [self._start(spool=f"spool-{n}") for n in range(self.run.workers)]
        else:
            self.processes.append(self._start("--workers", str(self.run.workers)))

    def look(self, done: int) -> None:
        """Complain if a process has ended by itself; kill one if it is time.

        Args:
            done: The tasks that are done.
        """
        for process in self.processes:
            assert process.popen.poll() is None, process.log
        if self.killed < self.run.kills and done > self.run.tasks * (self.killed + 1) // (
            self.run.kills + 2
        ):
            self.killed += 1
            number = self.chance.randrange(len(self.processes))
            self.processes[number].kill()
            self.processes[number] = self._start(spool=f"spool-{number}")

    def _start(self, *options: str, spool: str = "") -> Process:
        environ = {"ARBPROV_SPOOL": spool} if spool else {}
        environ |= {
            "PYTHONPATH": os.pathsep.join(str(Path(one.__file__).parents[1]) for one in _PACKAGES),
            "HUB_GRPC_URL": self.hub.url,
            "PROVIDER_AUTH_TOKEN": self.hub.token,
            "ARBPROV_CONCURRENCY": str(self.run.concurrency),
            "AT_ONCE": str(self.run.terms.at_once),
            "LIMIT": str(self.run.limit),
        }
        command = ["-m", "arbprov", "run", str(PROVIDER), "--quiet", *options]
        return Process(command, self.folder, **environ | self.environ)

    def close(self) -> None:
        """Stop the processes; they have to end well."""
        try:
            for process in self.processes:
                process.send(signal.SIGTERM)
            codes = [process.wait() for process in self.processes]
            assert codes == [0] * len(codes), self.processes[0].log
        finally:
            for process in self.processes:
                process.kill()
                # But for the warnings of limits that are used up, as they are meant to be.
                print(*(line for line in process.log.splitlines() if "% used" not in line))


@attrs.frozen
class Outcome:
    """What the vendor has counted, and the throughput as a share of what the limits allow."""

    counts: Counts
    throughput: float

    def complaints(self) -> dict[str, dict[str, int]]:
        """Return what the vendor has to complain of, by account."""
        kinds = ("over_quota", "over_at_once", "throttled", "refreshed_twice")
        return {kind: self.counts.by_account(kind) for kind in kinds}


def cpu_seconds() -> float:
    """Return the seconds of a core that this process and its ended children have taken."""
    usages = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def work(folder: Path, run: Run, redis: str = "") -> Outcome:
    """Have all tasks done, and print the figures."""
    began_with = cpu_seconds()
    with VendorProcess(folder, run.terms) as server, LocalHub(hold=0.2) as hub:
        environ = {"VENDOR_URL": server.url, "VENDOR_DATABASE": str(folder / "tokens")}
        if redis:
            environ["ARBPROV_RATE_LIMIT_STORE"] = redis
        provider = Provider(folder, hub, run, environ, random.Random(run.terms.seed))
        provider.start()
        customers = Customers(hub, run, run.plan())
        try:
            customers.work_off(lambda: provider.look(customers.done))
        finally:
            provider.close()
        counts = server.counts
    least = run.least_seconds(counts)
    # The other accounts have a pace of their own.
    seconds = max(counts.seconds[name] for name in run.full_accounts)
    requests = sum(counts.shops[name]["requests"] for name in run.full_accounts)
    print(
        f"{customers.done} tasks of {run.terms.accounts} accounts by {run.workers} processes, "
        f"killed {run.kills} times; {run.limit} declared of {run.terms.quota}; "
        f"{counts['requests']} requests; those of {len(run.full_accounts)} accounts took "
        f"{seconds:.1f} s, {requests / seconds:.0f}/s, and the limits need {least:g} s: "
        f"throughput / bound {least / seconds:.3f}"
    )
    print(
        f"over the quota {counts['over_quota']}, over {run.terms.at_once} in flight "
        f"{counts['over_at_once']}, 429s {counts.by_account('throttled')}, results "
        f"{dict(customers.statuses)}"
    )
    print(
        f"{counts['pages']} pages, {counts['unavailable']} times 503, {counts['unauthorized']} "
        f"times 401, {counts['refreshes']} refreshes, {counts['refreshed_twice']} with a token "
        f"that was spent, {counts['forgiven']} forgiven; "
        f"{max(one['most_at_once'] for one in counts.shops.values())} in flight at most; "
        f"{cpu_seconds() - began_with:.0f} s of a core, {os.cpu_count()} cores; the wall clock was "
        f"set by {counts.clock_moved * 1000:.1f} ms"
    )
    assert customers.wrong == []
    assert customers.done == run.tasks
    return Outcome(counts, least / seconds)


# The account whose declared limit is too high.
TOO_HIGH = "shop-0"
NONE_BUT_THE_FIRST = {
    "over_quota": {TOO_HIGH: 1},
    "over_at_once": {},
    "throttled": {TOO_HIGH: 1},
    "refreshed_twice": {},
}


@pytest.fixture
def redis():
    server = RedisServer()
    yield server.url
    server.close()


def terms(accounts, quota, period, **options):
    less = {TOO_HIGH: quota * 8 // 10}
    options = {"at_once": 4, "less": less} | options
    return Terms(accounts=accounts, quota=quota, period=period, **options)


SHORT = Run(terms=terms(5, 50, 2.0, uses=40, lifetime=4.0), tasks=150, workers=2, concurrency=32)
# Some 600 requests of each account: six windows of 97, and the beginning of a seventh, which the
# bound counts as no time.
LONG = Run(terms=terms(20, 99, 20.0), tasks=2_000, workers=4, concurrency=64)


@pytest.mark.slow
def test_a_vendor_has_nothing_to_complain_of(tmp_path, redis):
    assert work(tmp_path, SHORT, redis).complaints() == NONE_BUT_THE_FIRST


@pytest.mark.slow
def test_each_dialect_of_a_429_is_understood(tmp_path):
    accounts = [f"shop-{number}" for number in range(len(vendor.DIALECTS))]
    too_high = terms(len(accounts) + 1, 50, 3.0, less=dict.fromkeys(accounts, 40))
    outcome = work(tmp_path, Run(terms=too_high, tasks=48, workers=1, concurrency=32))
    # The second request comes when the vendor has said.
    assert outcome.complaints()["throttled"] == dict.fromkeys(accounts, 1)


@pytest.mark.long
def test_four_processes_keep_to_the_vendor_s_terms_and_use_them_up(tmp_path, redis):
    outcome = work(tmp_path, LONG, redis)
    assert outcome.complaints() == NONE_BUT_THE_FIRST
    assert outcome.throughput >= 0.9


@pytest.mark.long
def test_a_process_keeps_to_the_vendor_s_terms_and_uses_them_up(tmp_path):
    outcome = work(tmp_path, attrs.evolve(LONG, workers=1, concurrency=256))
    assert outcome.complaints() == NONE_BUT_THE_FIRST
    assert outcome.throughput >= 0.9


@pytest.mark.long
def test_processes_that_are_killed_keep_to_the_vendor_s_terms(tmp_path, redis):
    # A refresh token whose answer a killed process has not stored would be spent.
    forgiving = attrs.evolve(LONG.terms, forgives=True)
    outcome = work(tmp_path, attrs.evolve(LONG, terms=forgiving, kills=8), redis)
    assert outcome.complaints() == NONE_BUT_THE_FIRST


def test_the_provider_takes_less_than_sixty_lines():
    lines = PROVIDER.read_text().splitlines()
    assert len([line for line in lines if line.strip()]) < 60
