"""The laws of every store, in any order of calls: a machine that tries to break them."""

from __future__ import annotations

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from arbprov import Calendar, Concurrency, Limit, MinDelay, TokenBucket
from arbprov.limits import declare

from .ledgers import TICK, CooldownLedger, ledger_of, noise
from .stores import Call

PERIODS = (0.3, 1.0, 7.0, 60.0, 3600.0, 86_400.0)
periods = st.sampled_from(PERIODS)
KEYS = (None, "account.id", "payload.region", ("account.id", "payload.region"))
PROBE_TIMEOUT = 2.0


@st.composite
def rolling(draw):
    amount = draw(st.integers(1, 8))
    burst = draw(st.none() | st.integers(1, amount))
    return Limit(amount, draw(periods), burst)


policies = st.one_of(
    rolling(),
    rolling(),
    st.builds(
        TokenBucket,
        requests_per_minute=st.sampled_from([1.0, 7.0, 60.0, 600.0]),
        burst_size=st.integers(1, 8),
    ),
    st.builds(MinDelay, periods),
    st.builds(Concurrency, st.integers(1, 8)),
    st.builds(
        Calendar, st.sampled_from(["3/day", "8/day"]), st.sampled_from(["UTC", "Asia/Tokyo"])
    ),
)


@attrs.frozen(eq=False)
class Declared:
    """A limit, and the ledger of each of its keys."""

    policy: object
    key: object
    costs: bool
    ledgers: dict = attrs.field(factory=dict)
    cooldowns: dict = attrs.field(factory=dict)

    def declaration(self, name):
        cost = self.cost if self.costs else 1
        return declare(self.policy, key=self.key, name=name, cost=cost)

    def cost(self, call):
        return min(call.payload["cost"], self.policy.capacity) if self.costs else 1

    def bucket(self, call):
        paths = (self.key,) if isinstance(self.key, str) else self.key or ()
        values = {"account.id": call.account["id"], "payload.region": call.payload["region"]}
        return tuple(values[path] for path in paths)

    def ledger(self, call):
        return self.ledgers.setdefault(self.bucket(call), ledger_of(self.policy))

    def cooldown(self, call):
        return self.cooldowns.setdefault(self.bucket(call), CooldownLedger())


declared = st.builds(Declared, policies, st.sampled_from(KEYS), st.booleans())


@attrs.define(eq=False)
class Held:
    """A call that was admitted, by the store and by its twin."""

    call: Call
    limits: list
    entries: list
    decision: object
    twin: object
    throttled: bool = False


seconds = st.sampled_from([0.5, 1.0, 30.0, 4000.0])
calls = st.builds(
    lambda account, region, cost: Call({"region": region, "cost": cost}, {"id": account}),
    st.sampled_from("ab"),
    st.sampled_from(["eu", "us"]),
    st.integers(1, 8),
)
gaps = st.sampled_from(
    [0.0, 0.0, 1e-4, 0.0009, 0.0016, 0.003, 0.01, 0.1, 0.3, 0.999, 1.0, 1.0005, 1.2]
)


class LimitsMachine(RuleBasedStateMachine):
    """Calls a limiter in any order; ledgers say what it has to decide.

    A twin has its limits in another order, and sees only the calls that were admitted: no call
    that was refused, peeked at, or refunded at once.
    """

    steps = 0
    decisions = 0

    def __init__(self, make_bench):
        super().__init__()
        self.bench = make_bench()
        self.limiter, self.twin = self.bench.limiter(), self.bench.limiter()
        self.held = []

    def teardown(self):
        self.bench.close()

    @initialize(limits=st.lists(declared, min_size=1, max_size=4), data=st.data())
    def declare(self, limits, data):
        self.limits = limits
        part = data.draw(st.lists(st.sampled_from(limits), min_size=1, unique=True), "part")
        self.groups = [limits, part]
        self.stacks = [self._compiled(self.limiter, group) for group in self.groups]
        self.twins = [self._compiled(self.twin, group[::-1]) for group in self.groups]

    def _compiled(self, limiter, group):
        names = [f"limit {self.limits.index(one)}" for one in group]
        declarations = [one.declaration(name) for one, name in zip(group, names, strict=True)]
        return limiter.compile(declarations, action="work")

    # The steps.

    @rule(gap=gaps, period=periods)
    def let_time_pass(self, gap, period):
        self._count()
        self.bench.advance(gap * period)

    @rule(call=calls, which=st.sampled_from([0, 1]))
    def acquire(self, call, which):
        self._count()
        self._acquire(call, which)

    @rule(call=calls, which=st.sampled_from([0, 1]))
    def wait_it_out(self, call, which):
        self._count()
        refused = self._acquire(call, which)
        if refused is not None:
            self._check_not_late(call, which, refused)
            self.bench.advance(refused.wait_time)
            awaits_calls = self._awaits_calls(call, which)
            then = self.limiter.peek(self.stacks[which], call)
            assert then.allowed != awaits_calls, "after exactly its wait, a call is admitted"
            if any(isinstance(one.policy, Calendar) for one in self.limits):
                # Midnight is as exact as the wall clock was when it was worked out.
                self.bench.advance(2 * TICK)
            if not awaits_calls:
                assert self._acquire(call, which) is None, "the answer of a peek holds"

    @rule(call=calls, which=st.sampled_from([0, 1]))
    def peek(self, call, which):
        self._count()
        decisions = []
        for cost in range(1, 9):
            asked = attrs.evolve(call, payload=call.payload | {"cost": cost})
            decisions.append(self.limiter.peek(self.stacks[which], asked))
            self._check(asked, which, decisions[-1])
        waits = [one.wait_time for one in decisions]
        assert waits == sorted(waits), "a wait does not fall as the cost rises"

    @rule(call=calls, which=st.sampled_from([0, 1]))
    def acquire_and_refund(self, call, which):
        self._count()
        # A bucket has forgotten the last charge: a later refund gives back less.
        self.held = []
        cooldowns = [one.cooldown(call) for one in self.groups[which]]
        if any(cooldown.exists for cooldown in cooldowns):
            return
        decision = self.limiter.acquire(self.stacks[which], call)
        self._check(call, which, decision)
        before = self.limiter.peek(self.stacks[which], call)
        decision.undo()
        decision.undo()
        if decision.allowed:
            after = self.limiter.peek(self.stacks[which], call)
            assert after.allowed
            assert before.wait_time >= after.wait_time

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def refund(self, data):
        self._count()
        held = data.draw(st.sampled_from(self.held), "refunded")
        self.held.remove(held)
        was_probe = held.decision.is_probing
        held.decision.undo()
        held.twin.undo()
        for limit in held.limits if was_probe else ():
            limit.cooldown(held.call).pass_probe()
        for limit, entry in zip(held.limits, held.entries, strict=True):
            limit.ledger(held.call).refund(entry)

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def end(self, data):
        self._count()
        held = data.draw(st.sampled_from(self.held), "ended")
        self.held.remove(held)
        # Even if its handler has taken back its charge.
        for decision in (held.decision, held.twin):
            decision.release()
            decision.release()
        for limit, entry in zip(held.limits, held.entries, strict=True):
            if isinstance(limit.policy, Concurrency):
                limit.ledger(held.call).end(entry)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), most=st.integers(1, 8), reset_in=st.sampled_from([0.05, 0.5, 0.99, 3]))
    def report(self, data, most, reset_in):
        self._count()
        held = data.draw(st.sampled_from(self.held), "reporting")
        reported = [one for one in held.limits if not isinstance(one.policy, Concurrency)]
        if not reported:
            return
        limit = data.draw(st.sampled_from(reported), "reported")
        used = min(most, _amount(limit.policy))
        usage = {"used": used / _amount(limit.policy), "reset_in": reset_in * _period(limit.policy)}
        for decision in (held.decision, held.twin):
            decision.report(f"limit {self.limits.index(limit)}", **usage)
        limit.ledger(held.call).report(self.bench.now(), used, usage["reset_in"])
        # The report may or may not know of the calls before it.
        self.held = []
        which = 0 if held.limits is self.limits else 1
        self._check(held.call, which, self.limiter.peek(self.stacks[which], held.call))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), cooldowns=st.lists(seconds, min_size=1, max_size=2))
    def start_cooldowns(self, data, cooldowns):
        self._count()
        held = data.draw(st.sampled_from(self.held), "throttled")
        held.throttled = True
        keyed = [one for one in held.limits if one.key] or held.limits
        for retry_after in cooldowns:
            held.decision.start_cooldown(retry_after, None, PROBE_TIMEOUT)
            held.twin.start_cooldown(retry_after, None, PROBE_TIMEOUT)
            for limit in keyed:
                limit.cooldown(held.call).start(self.bench.now(), retry_after, PROBE_TIMEOUT)

    @precondition(lambda self: any(one.decision.is_probing for one in self.held))
    @rule(data=st.data())
    def end_well(self, data):
        self._count()
        probes = [one for one in self.held if one.decision.is_probing]
        held = data.draw(st.sampled_from(probes), "probe")
        self.held.remove(held)
        held.decision.end_cooldown()
        held.twin.end_cooldown()
        if not held.throttled:
            for limit in held.limits:
                limit.cooldown(held.call).end(self.bench.now())

    # The checks.

    def _count(self):
        LimitsMachine.steps += 1

    def _acquire(self, call, which):
        """Decide, check the decision and the twin's; return the decision if it is a refusal."""
        decision = self.limiter.acquire(self.stacks[which], call)
        self._check(call, which, decision)
        if not decision.allowed:
            return decision
        twin = self._twin(call, which)
        now, limits = self.bench.now(), self.groups[which]
        entries = [one.ledger(call).charge(now, one.cost(call)) for one in limits]
        probing = [one.cooldown(call).begin_probe(now) for one in limits]
        assert decision.is_probing == twin.is_probing == any(probing)
        left = sorted((str(one.limit), one.remaining) for one in decision.headroom)
        assert left == sorted((str(one.limit), one.remaining) for one in twin.headroom)
        self.held.append(Held(call, limits, entries, decision, twin))
        return None

    def _awaits_calls(self, call, which):
        """Tell whether time alone does not admit a call."""
        now = self.bench.now()
        return any(
            isinstance(one.policy, Concurrency)
            and one.ledger(call).must_refuse(now, one.cost(call))
            for one in self.groups[which]
        )

    def _twin(self, call, which):
        decision = self.twin.acquire(self.twins[which], call)
        assert decision.allowed, "a refused, peeked or refunded call has changed a decision"
        return decision

    def _check(self, call, which, decision):
        LimitsMachine.decisions += 1
        for one, headroom in zip(self.groups[which], decision.headroom, strict=True):
            self._check_limit(one, call, headroom, charged=bool(decision.receipts or decision.held))
        waits = [headroom.wait_time for headroom in decision.headroom]
        assert decision.wait_time == max(waits)
        assert decision.allowed == (max(waits) == 0)

    def _check_limit(self, one, call, headroom, *, charged):
        now, ledger, cost = self.bench.now(), one.ledger(call), one.cost(call)
        cooldown = one.cooldown(call).wait_time(now)
        error = noise(now + cooldown)
        if headroom.wait_time == 0:
            assert not ledger.must_refuse(now, cost), "more is admitted than the limit"
        assert headroom.wait_time >= cooldown - error, "a cooldown ends too early"
        if headroom.wait_time > cooldown + error:
            assert not ledger.must_admit(now, cost), "a call that fits is refused"
        left = headroom.remaining + cost * charged
        assert left == 0 or not ledger.must_refuse(now, left), "less is left than the headroom says"
        if left < one.policy.capacity:
            assert not ledger.must_admit(now, left + 1), "more is left than the headroom says"

    def _check_not_late(self, call, which, refused):
        now, limits = self.bench.now(), self.groups[which]
        for one, headroom in zip(limits, refused.headroom, strict=True):
            cooldown = one.cooldown(call).wait_time(now)
            if headroom.wait_time > cooldown + noise(now + cooldown):
                assert not one.ledger(call).is_late(now, headroom.wait_time, one.cost(call))


def _amount(policy):
    """Return the units that a share of a limit is a share of."""
    return policy.amount if isinstance(policy, Limit) else policy.capacity


def _period(policy):
    return policy.period if isinstance(policy, Limit) else 60.0
