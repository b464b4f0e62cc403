"""One key of one limit, for tests of algorithms without a store."""

from __future__ import annotations

import attrs

from arbprov.testing import VirtualClock


@attrs.define
class Gauge:
    """All algorithms of a policy, each with the state of one key."""

    policy: object
    clock: VirtualClock = attrs.field(factory=VirtualClock)
    algorithms: list = attrs.field(init=False)

    def __attrs_post_init__(self):
        self.algorithms = [
            (each, each.initial_state()) for each in self.policy.algorithms(self.clock)
        ]

    def wait_time(self, now, cost):
        return max(algorithm.peek(state, now, cost)[0] for algorithm, state in self.algorithms)

    def remaining(self, now):
        return min(algorithm.peek(state, now, 1)[1] for algorithm, state in self.algorithms)

    def is_idle(self, now):
        return all(algorithm.is_idle(state, now) for algorithm, state in self.algorithms)

    def __getattr__(self, name):
        """Return a function that calls a method of all algorithms."""

        def each(*arguments):
            for algorithm, state in self.algorithms:
                getattr(algorithm, name)(state, *arguments)

        return each
