"""`TaskQueue`: how a hub hands out tasks and records results, over any store."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs

from arbprov.errors import HubError
from arbprov.localhub.batches import Batches
from arbprov.localhub.polls import Polls
from arbprov.localhub.store import Accepted, Store
from arbprov.localhub.tasks import (
    Delivery,
    NewTask,
    Outcome,
    ReceivedResult,
    State,
    StoredTask,
    TaskFilter,
)
from arbprov.localhub.tickets import HubStopped

__all__ = ["Change", "QueueSettings", "TaskQueue"]

logger = logging.getLogger("arbprov")

# The most calls that share a transaction.
_MOST = 256
# Seconds between two runs of the store's upkeep, and two looks at the changes of other hubs.
_LOOK_INTERVAL = 1.0
# After upkeep that found nothing, the least seconds until the next.
_MIN_INTERVAL = 0.01
# Seconds between two rounds of removing old tasks.
_PRUNE_INTERVAL = 60.0
# Changes that a slow listener may be behind; it misses the oldest then.
_MAX_CHANGES = 1_000


@attrs.frozen(kw_only=True)
class QueueSettings:
    """The settings of a queue; times are in seconds.

    Args:
        hold: How long to hold a poll while there is no task.
        lease: When a task is handed out again if no result comes.
        renewed_lease: The same, for providers that renew their leases.
        renew_interval: How often providers renew their leases.
        max_age: How long to keep tasks that have ended.
        max_count: How many tasks that have ended to keep.
    """

    hold: float = 1.0
    lease: float = 600.0
    renewed_lease: float = 60.0
    renew_interval: float = 20.0
    max_age: float = 7 * 24 * 3600.0
    max_count: int = 1_000_000


@attrs.frozen
class Change:
    """A change of a task, for the page and other listeners.

    Attributes:
        id: The task's id; empty if anything may have changed, e.g. by another hub.
        state: Its new state.
    """

    id: str
    state: str


class TaskQueue:
    """Accepts tasks, hands them out, records results, and ends leases, holds and ttls in time.

    It belongs to the event loop that runs when it is made.

    Args:
        store: Keeps the tasks.
        settings: The settings.
    """

    def __init__(self, store: Store, settings: QueueSettings) -> None:
        self.store = store
        self.settings = settings
        self._loop = asyncio.get_running_loop()
        self._polls = Polls(store, settings.hold)
        self._submissions: Batches[Sequence[NewTask], list[Accepted]] = Batches(
            self._submit_all, _MOST
        )
        self._results = Batches(self._record_all, _MOST)
        self._watchers: defaultdict[str, list[Callable[[StoredTask], object]]] = defaultdict(list)
        self._waits: set[asyncio.Future[None]] = set()
        self._listeners: set[asyncio.Queue[Change]] = set()
        self._look_now = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._paused_until = 0.0

    async def start(self) -> None:
        """Open the store, and look after it from now on.

        Raises:
            ConfigurationError: The store cannot be used.
        """
        await self.store.open(self._note_foreign_change)
        self._tasks = [
            self._loop.create_task(self._keep_up()),
            self._loop.create_task(self._keep_pruned()),
        ]

    async def answer_held_calls(self) -> None:
        """Answer the held polls, and end every `wait`; from now on, no task is handed out."""
        for ended in self._waits:
            if not ended.done():
                ended.set_exception(HubStopped("the hub has stopped"))
        await self._polls.close()

    async def stop(self) -> None:
        """Finish the batches on their way, and close the store; call `answer_held_calls` before."""
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._submissions.finish()
        await self._results.finish()
        await self.store.close()

    # Tasks in.

    async def submit(self, tasks: Sequence[NewTask]) -> list[Accepted]:
        """Add tasks: all or none of them; they are in the store when this returns.

        Raises:
            HubError: The store cannot be used now.
        """
        return await self._submissions.add(tasks)

    async def _submit_all(self, batches: Sequence[Sequence[NewTask]]) -> list[list[Accepted]]:
        """Add the tasks of several calls; a caller that leaves meanwhile changes nothing."""
        tasks = [task for batch in batches for task in batch]
        accepted = await self.store.submit(tasks)
        self._polls.wake()
        if any(task.not_before is not None for task in tasks):
            self._look_now.set()
        for task in accepted:
            if task.is_new:
                self._tell(Change(task.id, State.WAITING))
        left = iter(accepted)
        return [[next(left) for _ in batch] for batch in batches]

    # Tasks out.

    async def take(self, provider: str, *, renews: bool) -> Delivery | None:
        """Return a task for a provider; None if there is none while the poll is held.

        Args:
            provider: The provider's name.
            renews: Whether it renews its leases, which are shorter then.

        Raises:
            HubError: The store cannot be used now.
        """
        settings = self.settings
        lease = settings.renewed_lease if renews else settings.lease
        delivery = await self._polls.take(provider, min(lease, settings.lease))
        if delivery is not None:
            self._tell(Change(delivery.id, State.RUNNING))
        return delivery

    async def give_back(self, delivery: Delivery) -> None:
        """Take back a task that did not reach the provider."""
        await self._polls.give_back([delivery])

    def pause_polls(self, seconds: float) -> None:
        """Ask every provider that polls to pause for `seconds` from now on."""
        self._paused_until = self._loop.time() + seconds
        self._polls.answer_all()

    @property
    def pause_left(self) -> float:
        """Seconds for which providers are asked to pause."""
        return max(0.0, self._paused_until - self._loop.time())

    # Results.

    async def record(self, result: ReceivedResult) -> Outcome:
        """Record a result; it is in the store when this returns.

        Raises:
            HubError: The store cannot be used now.
        """
        return await self._results.add(result)

    async def _record_all(self, results: Sequence[ReceivedResult]) -> list[Outcome]:
        """Record the results of several calls; a caller that leaves meanwhile changes nothing."""
        outcomes = await self.store.record(results)
        # A limit's group may be open now.
        self._polls.wake()
        if any(result.is_retried for result in results):
            self._look_now.set()
        recorded = [
            result
            for result, outcome in zip(results, outcomes, strict=True)
            if outcome is Outcome.RECORDED
        ]
        if watched := [result.id for result in recorded if result.id in self._watchers]:
            await self._tell_watchers(watched)
        for result in recorded:
            self._tell(Change(result.id, _state_after(result)))
        return outcomes

    async def renew(
        self, provider: str, tasks: Sequence[tuple[str, int]]
    ) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Renew leases; see `Store.renew`."""
        lease = min(self.settings.renewed_lease, self.settings.lease)
        return await self.store.renew(provider, tasks, lease)

    async def wait(self, ids: Iterable[str], timeout: float) -> list[StoredTask]:
        """Return the tasks that have ended; if none has, wait for the first, at most `timeout` s.

        Raises:
            HubStopped: The hub stops.
            HubError: The store cannot be used now.
        """
        wanted = [*ids]
        has_ended: asyncio.Future[None] = self._loop.create_future()

        def note(_: StoredTask) -> None:
            if not has_ended.done():
                has_ended.set_result(None)

        for name in wanted:
            self.watch(name, note)
        self._waits.add(has_ended)
        try:
            found = await self.store.ended(wanted)
            if not found and wanted:
                await asyncio.wait([has_ended], timeout=timeout)
                if has_ended.done():
                    has_ended.result()
                found = await self.store.ended(wanted)
            return found
        finally:
            self._waits.discard(has_ended)
            for name in wanted:
                self.unwatch(name, note)

    def watch(self, id: str, on_end: Callable[[StoredTask], object]) -> None:
        """Have a function called when a task has ended, perhaps more than once."""
        self._watchers[id].append(on_end)

    def unwatch(self, id: str, on_end: Callable[[StoredTask], object]) -> None:
        """End a `watch`; nothing happens if it has ended."""
        watchers = self._watchers.get(id, [])
        if on_end in watchers:
            watchers.remove(on_end)
        if not watchers:
            self._watchers.pop(id, None)

    async def _tell_watchers(self, ids: Sequence[str]) -> None:
        for task in await self.store.ended(ids):
            for on_end in [*self._watchers.get(task.id, ())]:
                on_end(task)

    # Retries and cancellations.

    async def retry(self, ids: Sequence[str]) -> list[str]:
        """Have ended tasks wait again; return their ids."""
        retried = await self.store.retry(ids)
        self._polls.wake()
        for name in retried:
            self._tell(Change(name, State.WAITING))
        return retried

    async def cancel(self, ids: Sequence[str], reason: str = "cancelled") -> list[str]:
        """Cancel tasks that have not ended; return their ids."""
        cancelled = await self.store.cancel(ids, reason)
        self._look_now.set()
        await self._note_ended(cancelled, State.CANCELLED)
        return cancelled

    async def select(self, where: TaskFilter, most: int) -> list[str]:
        """Return the ids of at most `most` tasks that a filter finds, the latest first."""
        ids: list[str] = []
        before = None
        while len(ids) < most:
            page = await self.store.search(
                where, before=before, limit=min(1_000, most - len(ids)), preview=0
            )
            if not page:
                break
            ids += [task.id for task in page]
            before = page[-1].number
        return ids

    def wake(self) -> None:
        """Look for ready tasks and do upkeep now, e.g. after a pause has ended."""
        self._look_now.set()
        self._polls.wake()
        self._tell(Change("", ""))

    async def _note_ended(self, ids: Sequence[str], state: State) -> None:
        if watched := [name for name in ids if name in self._watchers]:
            await self._tell_watchers(watched)
        for name in ids:
            self._tell(Change(name, state))

    # Changes.

    @contextlib.contextmanager
    def changes(self) -> Iterator[asyncio.Queue[Change]]:
        """Yield a queue that gets each change from now on; a slow reader misses the oldest."""
        listener: asyncio.Queue[Change] = asyncio.Queue(_MAX_CHANGES)
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)

    def _tell(self, change: Change) -> None:
        for listener in self._listeners:
            if listener.full():
                listener.get_nowait()
            listener.put_nowait(change)

    def _note_foreign_change(self) -> None:
        self._look_now.set()
        self._polls.wake()
        self._tell(Change("", ""))

    # Upkeep.

    async def _keep_up(self) -> None:
        while True:
            self._look_now.clear()
            try:
                pause = await self._look()
            except HubError as error:
                logger.error("the hub's store can't be used: %s; trying again", error)
                pause = _LOOK_INTERVAL
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._look_now.wait(), pause)

    async def _look(self) -> float:
        """Run the store's upkeep; return the seconds until the next run."""
        due = await self.store.upkeep()
        if due.ready or self.store.is_shared:
            self._polls.wake()
        if due.ended:
            await self._note_ended(due.ended, State.DEAD)
        if self.store.is_shared and self._watchers:
            await self._tell_watchers([*self._watchers])
        next_in = _LOOK_INTERVAL if due.next_in is None else due.next_in
        return min(max(next_in, _MIN_INTERVAL), _LOOK_INTERVAL)

    async def _keep_pruned(self) -> None:
        while True:
            try:
                while await self.store.prune(self.settings.max_age, self.settings.max_count):
                    # Other work goes between two rounds.
                    await asyncio.sleep(_MIN_INTERVAL)
            except HubError as error:
                logger.error("old tasks can't be removed from the hub's store: %s", error)
            await asyncio.sleep(_PRUNE_INTERVAL)


def _state_after(result: ReceivedResult) -> State:
    if result.is_retried:
        return State.WAITING
    return State.DONE if result.is_good else State.FAILED
