"""One key of one limit, for tests that look at meters without a store."""

from __future__ import annotations

import attrs

from arbprov.testing import VirtualClock


@attrs.define
class Gauge:
    """All meters of a rule, each with the state of one key."""

    rule: object
    clock: VirtualClock = attrs.field(factory=VirtualClock)
    meters: list = attrs.field(init=False)

    def __attrs_post_init__(self):
        self.meters = [(meter, meter.fresh()) for meter in self.rule.meters(self.clock)]

    def wait_time(self, now, cost):
        return max(meter.look(state, now, cost)[0] for meter, state in self.meters)

    def remaining(self, now):
        return min(meter.look(state, now, 1)[1] for meter, state in self.meters)

    def is_idle(self, now):
        return all(meter.is_idle(state, now) for meter, state in self.meters)

    def __getattr__(self, name):
        """Return what does to all meters what one of them can do."""

        def each(*arguments):
            for meter, state in self.meters:
                getattr(meter, name)(state, *arguments)

        return each
