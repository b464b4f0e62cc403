"""The laws of every store, in any order of calls: a machine compares it with a simple model."""

from __future__ import annotations

import asyncio
import collections
import tempfile
from pathlib import Path

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support.task_stores import STORES

from arbprov.localhub.tasks import (
    NewTask,
    Outcome,
    Pause,
    PauseKind,
    ReceivedResult,
    State,
    TaskFilter,
)

# No sum of steps comes near a time at which something is due, so that a store whose clock does
# not stand still is compared too.
STEPS = (400, 1000)
LEASE = HOLD = 600
SOON = 300

ENDED = {State.DONE, State.FAILED, State.CANCELLED, State.DEAD}


@attrs.define(eq=False)
class Episode:
    """What was handed out of a group at a stretch, and has not been lost or returned."""

    running: set[Task] = attrs.field(factory=set)
    passed: int = 0
    over_limit: int = 0

    @property
    def taken(self):
        return len(self.running) + self.passed + self.over_limit


@attrs.define(eq=False)
class Task:
    """A task of the model, with the end and the result of each attempt."""

    id: str
    number: int
    action: str
    account: str
    provider: str
    priority: int
    not_before: float | None
    expires_at: float | None
    max_deliveries: int
    state: State = State.WAITING
    deliveries: int = 0
    lease_ends_at: float = 0.0
    worker: str = ""
    episode: Episode | None = None
    ends: list[str] = attrs.field(factory=list)
    results: list[tuple[str, str] | None] = attrs.field(factory=list)
    times_ended: int = 0
    times_retried: int = 0

    @property
    def group(self):
        return self.action, self.account

    @property
    def lane(self):
        return self.provider, self.action, self.account, self.priority

    @property
    def attempt(self):
        return len(self.ends)


@attrs.define(eq=False)
class Hold:
    """A group over a limit."""

    due_at: float = 0.0
    is_held: bool = True
    budget: int = 0
    limits: int = 0
    episode: Episode = attrs.field(factory=Episode)

    @property
    def room(self):
        if self.is_held:
            return 0
        more = 1 + 2 * max(0, self.episode.passed - self.budget)
        return max(0, self.budget + more - self.episode.taken)

    def begin_episode(self, now):
        if self.is_held:
            self.budget = max(0, self.episode.taken - self.limits)
        else:
            self.budget = self.episode.taken
        self.is_held, self.limits, self.episode = False, 0, Episode()
        self.due_at = now + HOLD


class Model:
    """The rules of `arbprov.localhub.store`, as plainly as can be."""

    def __init__(self):
        self.now = 0.0
        self.tasks: dict[str, Task] = {}
        self.holds: dict[tuple[str, str], Hold] = {}
        self.pauses: set[tuple[PauseKind, str]] = set()

    def waiting(self, group):
        return [
            task
            for task in self.tasks.values()
            if task.group == group and task.state == State.WAITING and self.has_come(task)
        ]

    def has_come(self, task):
        return task.not_before is None or task.not_before <= self.now

    def can_go(self, task, provider):
        hold = self.holds.get(task.group)
        return (
            task.state == State.WAITING
            and self.has_come(task)
            and task.provider in {"", provider}
            and (hold is None or hold.room > 0)
            and not self.pauses
            & {
                (PauseKind.ACTION, task.action),
                (PauseKind.ACCOUNT, task.account),
                (PauseKind.PROVIDER, provider),
            }
        )

    def hand_out(self, task, provider):
        task.state = State.RUNNING
        task.ends.append("")
        task.results.append(None)
        task.deliveries += 1
        task.worker = provider
        task.lease_ends_at = self.now + LEASE
        if hold := self.holds.get(task.group):
            task.episode = hold.episode
            hold.episode.running.add(task)

    def end(self, task, state, *, passes=False):
        assert task.state not in ENDED
        task.state = state
        task.times_ended += 1
        self.leave(task, passes=passes)
        self.forget_unused(task.group)

    def leave(self, task, *, passes=False, is_limited=False):
        """Have a task no longer run in its episode."""
        episode, task.episode = task.episode, None
        if episode is not None:
            episode.running.remove(task)
            episode.passed += passes
            episode.over_limit += is_limited

    def forget_unused(self, group):
        hold = self.holds.get(group)
        if hold and not (hold.is_held or hold.episode.running or self.waiting(group)):
            del self.holds[group]

    def wait_again(self, task, end, *, counts):
        task.ends[-1] = end
        task.state = State.WAITING
        task.deliveries -= not counts
        self.leave(task)

    def record(self, task, attempt, status, text):
        if not attempt and (status, text) in task.results:
            return Outcome.REPEATED
        attempt = attempt or task.attempt
        if not 0 < attempt <= task.attempt:
            return Outcome.UNKNOWN
        found = task.results[attempt - 1]
        if found is not None:
            return Outcome.REPEATED if found == (status, text) else Outcome.KEPT_ASIDE
        task.results[attempt - 1] = status, text
        has_ended_before = task.ends[attempt - 1]
        task.ends[attempt - 1] = has_ended_before or ("limit" if status == "limit" else "result")
        if task.state in ENDED:
            return Outcome.KEPT_ASIDE
        if status != "limit":
            state = State.FAILED if status == "error" else State.DONE
            self.end(task, state, passes=attempt == task.attempt)
        elif task.state == State.RUNNING and attempt == task.attempt:
            task.state = State.WAITING
            task.deliveries -= 1
            hold = self.holds.setdefault(task.group, Hold())
            hold.limits += 1
            hold.due_at, hold.is_held = self.now + HOLD, True
            self.leave(task, is_limited=True)
        return Outcome.RECORDED

    def advance(self, seconds):
        """Let time pass; return the tasks that are dead now."""
        self.now += seconds
        dead = []
        for task in self.tasks.values():
            if task.state == State.RUNNING and task.lease_ends_at <= self.now:
                if task.deliveries >= task.max_deliveries:
                    task.ends[-1] = "lease"
                    self.end(task, State.DEAD)
                    dead.append(task.id)
                else:
                    self.wait_again(task, "lease", counts=True)
        for task in self.tasks.values():
            is_new = task.state == State.WAITING and not task.attempt
            if is_new and task.expires_at is not None and task.expires_at <= self.now:
                self.end(task, State.DEAD)
                dead.append(task.id)
        for group, hold in list(self.holds.items()):
            if hold.room == 0 and hold.due_at <= self.now:
                hold.begin_episode(self.now)
            self.forget_unused(group)
        return dead


providers = st.sampled_from(["p", "q"])
new_tasks = st.fixed_dictionaries(
    {
        "action": st.sampled_from(["x", "x", "y"]),
        "account": st.sampled_from("abcd"),
        "provider": st.sampled_from(["", "", "", "p"]),
        "priority": st.sampled_from([0, 0, 0, 1]),
        "waits": st.sampled_from([False, False, False, True]),
        "expires": st.sampled_from([False, False, False, True]),
        "max_deliveries": st.integers(1, 3),
    }
)
pauses = st.sampled_from(
    [
        Pause(PauseKind.ACTION, "x"),
        Pause(PauseKind.ACCOUNT, "a"),
        Pause(PauseKind.PROVIDER, "p"),
    ]
)


class StoreMachine(RuleBasedStateMachine):
    """Calls a store in any order."""

    kind: str

    @initialize()
    def open(self):
        self.folder = tempfile.TemporaryDirectory()
        self.loop = asyncio.new_event_loop()
        self.bench = self.run(STORES[self.kind](Path(self.folder.name)))
        self.model = Model()
        # How often each account was served while another waited: by provider, account, priority.
        self.overtakers = collections.defaultdict(collections.Counter)
        self.run(self.store.submit([NewTask(id="now", action="now")]))
        self.begin = self.run(self.store.get("now")).created_at
        self.run(self.store.cancel(["now"], ""))

    def teardown(self):
        if hasattr(self, "bench"):
            self.run(self.store.close())
            self.loop.close()
            self.folder.cleanup()

    @property
    def store(self):
        return self.bench.store

    def run(self, call):
        return self.loop.run_until_complete(call)

    def draw(self, data):
        """Return any task."""
        return self.model.tasks[data.draw(st.sampled_from(sorted(self.model.tasks)))]

    @property
    def has_tasks(self):
        return hasattr(self, "model") and bool(self.model.tasks)

    @rule(drawn=st.lists(new_tasks, min_size=1, max_size=4))
    def submit(self, drawn):
        model, new = self.model, []
        for values in drawn:
            number = len(model.tasks)
            task = Task(
                id=f"t{number:04}",
                number=number,
                action=values["action"],
                account=values["account"],
                provider=values["provider"],
                priority=values["priority"],
                not_before=model.now + SOON if values["waits"] else None,
                expires_at=model.now + SOON if values["expires"] else None,
                max_deliveries=values["max_deliveries"],
            )
            model.tasks[task.id] = task
            new.append(
                NewTask(
                    id=task.id,
                    action=task.action,
                    account_key=task.account,
                    provider=task.provider,
                    priority=task.priority,
                    not_before=self.begin + task.not_before if values["waits"] else None,
                    ttl=SOON if values["expires"] else None,
                    max_deliveries=task.max_deliveries,
                )
            )
        accepted = self.run(self.store.submit(new))
        assert [one.is_new for one in accepted] == [True] * len(new)

    @rule(provider=providers, count=st.integers(1, 5))
    def claim(self, provider, count):
        model = self.model
        given = self.run(self.store.claim(provider, count, LEASE))
        assert len(given) <= count
        for delivery in given:
            task = model.tasks[delivery.id]
            possible = [one for one in model.tasks.values() if model.can_go(one, provider)]
            assert task in possible, "it must not go now"
            assert task.priority == max(one.priority for one in possible)
            assert task is min(
                (one for one in possible if one.lane == task.lane), key=lambda one: one.number
            )
            assert delivery.attempt == task.attempt + 1
            self.check_turn(task, possible, provider)
            model.hand_out(task, provider)
            self.forget_those_that_cannot_go()
        if len(given) < count:
            left = [one.id for one in model.tasks.values() if model.can_go(one, provider)]
            assert left == [], "it was not handed out"

    def check_turn(self, task, possible, provider):
        """Check that no account is served twice before another that could be served."""
        others = {one.account for one in possible if one.priority == task.priority}
        for account in others - {task.account}:
            served = self.overtakers[provider, account, task.priority]
            served[task.account] += 1
            assert served[task.account] == 1, f"{task.account} has overtaken {account}"
        for key in list(self.overtakers):
            if key[1:] == (task.account, task.priority):
                del self.overtakers[key]

    @invariant()
    def forget_those_that_cannot_go(self):
        """An account that has no task that can go loses its turn."""
        if hasattr(self, "model"):
            ready = {
                (provider, task.account, task.priority)
                for provider in "pq"
                for task in self.model.tasks.values()
                if self.model.can_go(task, provider)
            }
            for key in set(self.overtakers) - ready:
                del self.overtakers[key]

    @precondition(lambda self: self.has_tasks)
    @rule(
        data=st.data(),
        status=st.sampled_from(["success", "success", "warning", "error", "limit", "limit"]),
        text=st.sampled_from(["1", "1", "2"]),
    )
    def record(self, data, status, text):
        task = self.draw(data)
        attempt = data.draw(st.integers(0, task.attempt + 1))
        result = ReceivedResult(
            id=task.id,
            attempt=attempt,
            status=status,
            result=text,
            wait_time=HOLD if status == "limit" else 0,
        )
        [outcome] = self.run(self.store.record([result]))
        assert outcome == self.model.record(task, attempt, status, text)

    @precondition(lambda self: self.has_tasks)
    @rule(data=st.data())
    def give_back(self, data):
        task = self.draw(data)
        attempt = data.draw(st.integers(max(0, task.attempt - 1), task.attempt))
        self.run(self.store.give_back([(task.id, attempt)]))
        if task.state == State.RUNNING and attempt == task.attempt:
            self.model.wait_again(task, "returned", counts=False)

    @precondition(lambda self: self.has_tasks)
    @rule(data=st.data(), provider=providers)
    def renew(self, data, provider):
        task = self.draw(data)
        sent = (task.id, data.draw(st.integers(0, task.attempt)))
        is_latest = sent[1] in {0, task.attempt} and task.worker == provider
        is_cancelled = task.state == State.CANCELLED
        is_lost = not is_cancelled and (task.state in ENDED or not is_latest)
        assert self.run(self.store.renew(provider, [sent], LEASE)) == (
            [sent] * is_cancelled,
            [sent] * is_lost,
        )
        if task.state == State.RUNNING and is_latest:
            task.lease_ends_at = self.model.now + LEASE

    @rule(seconds=st.sampled_from(STEPS))
    def advance(self, seconds):
        self.run(self.bench.advance(seconds))
        ended = []
        while True:
            due = self.run(self.store.upkeep())
            ended += due.ended
            if due.next_in != 0:
                break
        assert sorted(ended) == sorted(self.model.advance(seconds))

    @precondition(lambda self: self.has_tasks)
    @rule(data=st.data())
    def cancel(self, data):
        task = self.draw(data)
        can = task.state not in ENDED
        assert self.run(self.store.cancel([task.id], "enough")) == [task.id] * can
        if can:
            if task.state == State.RUNNING:
                task.ends[-1] = "cancelled"
            self.model.end(task, State.CANCELLED)

    @precondition(lambda self: self.has_tasks)
    @rule(data=st.data())
    def retry(self, data):
        task = self.draw(data)
        can = task.state in ENDED
        assert self.run(self.store.retry([task.id])) == [task.id] * can
        if can:
            task.state, task.deliveries, task.expires_at = State.WAITING, 0, None
            task.times_retried += 1

    @rule(pause=pauses)
    def pause(self, pause):
        self.run(self.store.pause(pause))
        self.model.pauses.add((pause.kind, pause.name))

    @rule(pause=pauses)
    def resume(self, pause):
        self.run(self.store.resume(pause))
        self.model.pauses.discard((pause.kind, pause.name))

    @precondition(lambda self: hasattr(self, "bench") and self.bench.is_durable)
    @rule()
    def reopen(self):
        self.run(self.bench.reopen())

    @rule()
    def compare(self):
        """Compare all tasks, attempts, holds and counts."""
        model = self.model
        stored = self.run(self.store.search(TaskFilter(), limit=100_000))
        assert [(one.id, one.state, one.attempt, one.deliveries) for one in reversed(stored)] == [
            ("now", State.CANCELLED, 0, 0),
            *(
                (task.id, task.state, task.attempt, task.deliveries)
                for task in model.tasks.values()
            ),
        ]
        held = self.run(self.store.held())
        assert {(one.action, one.account_key): one.room for one in held} == {
            group: hold.room for group, hold in model.holds.items()
        }
        states = collections.Counter((one.action, one.state) for one in stored)
        assert {
            (action, state): n
            for action, counted in self.run(self.store.counts()).items()
            for state, n in counted.items()
            if n
        } == states
        for task in model.tasks.values():
            # Each ends once, and once more each time somebody retries it.
            assert task.times_ended - task.times_retried == (task.state in ENDED)
            attempts = self.run(self.store.attempts(task.id))
            assert [one.number for one in attempts] == [*range(1, task.attempt + 1)]
            assert [one.end for one in attempts] == task.ends
            assert [(one.status, one.result) for one in attempts] == [
                found or ("", "") for found in task.results
            ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", STORES)
def test_a_store_keeps_the_laws_in_any_order_of_calls(kind):
    machine = type(f"StoreMachine{kind}", (StoreMachine,), {"kind": kind})
    # Each call to a store on a disk takes a thousand times as long.
    examples = settings().max_examples if kind == "memory" else settings().max_examples // 10
    run_state_machine_as_test(machine, settings=settings(max_examples=examples))
