"""`Store`: where a hub keeps its tasks.

The rules that every store keeps, and that the contract suite checks:

- What `submit`, `record`, `retry`, `cancel` or `pause` returned is durable, as far as the store is.
- **Order.** Higher priorities first. Within a priority, accounts take turns: an account with 10,000
  waiting tasks delays the first task of another account by one task. An account's turn is the same
  however many actions its tasks have; its actions take turns too. Within an account and an action,
  in the order of submission. Technically: tasks wait in *lanes* of one provider, action, account
  and priority. A lane is ready if a provider may take its tasks: not held, with room, not paused,
  not empty. The account whose `turn` is lowest goes next, and then to the back, in all its lanes of
  this priority. An account that becomes ready starts at the back. So at most one task of each ready
  account goes before its first task, and no stream of new accounts can hold an account back.
  `claim` costs the same with 1,000 and with 1,000,000 waiting tasks.
- **Attempts.** Each hand-out is an attempt with the next number. It counts as a delivery, unless it
  ends as ``limit`` or ``returned``. A task whose deliveries have reached `max_deliveries` when its
  lease ends is dead.
- **Results.** The first result of an attempt is recorded, once. The same result (status and
  envelope) again is repeated; another is kept aside, once. A result of an attempt whose lease has
  run out is still recorded if the task has not ended: success and warning make it done, error makes
  it failed, and a ``limit`` changes no state. The attempt's `end` stays as it was. For a cancelled,
  dead, done or failed task, a result of an attempt without one becomes that attempt's result and
  changes no state; the outcome is "kept aside". A result without an attempt's number that equals
  the result of any attempt of the task is repeated; otherwise it is of the latest attempt. A result
  of an attempt that the task never had is unknown.
- **Limits.** A ``limit`` without a `wait_time` makes its task failed. With one, a ``limit`` of
  the latest attempt of a running task returns the task to its lane and holds its group (its
  action and account, in all lanes) for `wait_time`; a hold never gets shorter. When the hold
  ends, an *episode* of the group begins. As many of its tasks as the limit has let through
  before, the *budget*, may be handed out at once, and one more, which finds out whether the limit
  lets more through. Beyond the budget, two more may go for each task that passes, i.e. whose
  attempt ends with another result than ``limit``. They go to the providers that claim first, so
  that an absent provider's task keeps nothing held. An attempt that ends without its own result
  (a lost lease, a return, a cancelled task, a late result of an earlier attempt) makes room for
  another. Any ``limit`` of the group ends the episode and holds the group again. The next budget
  is how many tasks of the episode were handed out, less the limits until the end of the hold: a
  task that still runs counts, since limits decide at its start. An episode without room, in which
  no limit comes for as long as the last hold lasted, ends too; the next budget is what it has
  handed out, which is more. So tasks that are slower than a quota's period use the whole quota,
  and a limit costs about one delivery per `wait_time`. The group is forgotten, and all of its
  tasks may go, as soon as it is not held, no task of it waits, and none of its episode runs.
- **Time.** A task with a `not_before` waits outside of the lanes until then. A task whose `ttl`
  has passed before its first attempt began is dead, and is never handed out, even before `upkeep`
  has noticed. A retried task has no `ttl` any more, and keeps its `not_before`.
- **Ids.** `submit` with a known idempotency key, or a known id, adds nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import attrs

from arbprov.localhub.tasks import (
    Attempt,
    Delivery,
    Ending,
    NewTask,
    Outcome,
    Pause,
    ReceivedResult,
    Scope,
    State,
    StoredTask,
    TaskFilter,
)

__all__ = ["SHORTEST_EPISODE", "Accepted", "Due", "Store", "StoredToken"]

#: Seconds; without it, a limit that asks to wait for hardly any time would keep a store busy.
SHORTEST_EPISODE = 0.1


@attrs.frozen
class Accepted:
    """What became of a submitted task.

    Attributes:
        id: The id of the task that the hub has: another task's with the same idempotency key.
        is_new: Whether the task was added.
    """

    id: str
    is_new: bool


@attrs.frozen
class Due:
    """What `Store.upkeep` did and when it has to be called again.

    Attributes:
        ready: Whether tasks became ready to be handed out.
        ended: The ids of tasks that are dead now.
        next_in: Seconds until the next task, hold, lease or ttl is due; None if there is none.
    """

    ready: bool
    ended: tuple[str, ...] = ()
    next_in: float | None = None


@attrs.frozen(kw_only=True)
class StoredToken:
    """A token, of which the store has only the hash.

    Attributes:
        name: A name for people, unique.
        role: ``provider``, ``admin`` or ``reader``.
        provider: The provider whose token it is; empty for the other roles.
        digest: SHA-256 of the token, as hexadecimal digits.
        created_at: When it was made, in seconds since 1970.
    """

    name: str
    role: str
    provider: str
    digest: str = attrs.field(repr=False)
    created_at: float = 0.0


class Store(Protocol):
    """Keeps tasks, attempts, holds, pauses and tokens; any thread-safe use is by one event loop.

    Attributes:
        name: The store for people: ``memory``, ``sqlite:PATH``, ``postgresql://HOST/DATABASE``;
            without passwords.
        is_shared: Whether other hubs may use the store at the same time.
    """

    name: str
    is_shared: bool

    async def open(self, on_change: Callable[[], None]) -> None:
        """Open the store, and bring an older store to this version.

        Args:
            on_change: Called in the event loop when another hub has changed the store; it may be
                called too often, and is no promise: hubs look by themselves each second.

        Raises:
            ConfigurationError: The store cannot be used; the message says why.
        """
        ...

    async def close(self) -> None:
        """Finish what was begun, and close the store."""
        ...

    # Tasks on their way.

    async def submit(self, tasks: Sequence[NewTask]) -> list[Accepted]:
        """Add tasks: all or none of them."""
        ...

    async def claim(self, provider: str, count: int, lease: float) -> list[Delivery]:
        """Hand out at most `count` tasks to a provider, by the rules of the module.

        Args:
            provider: The provider's name.
            count: The most tasks to hand out.
            lease: Seconds until a task is handed out again without a result or a renewal.
        """
        ...

    async def give_back(self, deliveries: Sequence[tuple[str, int]]) -> None:
        """Take back tasks that did not reach the provider; they do not count as delivered.

        Args:
            deliveries: Ids and attempts; attempts that have ended are ignored.
        """
        ...

    async def record(self, results: Sequence[ReceivedResult]) -> list[Outcome]:
        """Record results; see the rules of the module."""
        ...

    async def renew(
        self, provider: str, tasks: Sequence[tuple[str, int]], lease: float
    ) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        """Have the leases of a provider's running tasks end `lease` seconds from now.

        Returns:
            Of these tasks, with their attempts, the cancelled ones, and the lost ones: unknown,
            ended, or handed out again. A task that waits again since its lease ran out is in
            neither: its provider may still be the first with a result. Attempt 0 stands for the
            latest.
        """
        ...

    async def upkeep(self) -> Due:
        """Do what is due: hand back tasks whose leases ended, start tasks, end holds and ttls."""
        ...

    async def prune(self, max_age: float, max_count: int) -> int:
        """Remove ended tasks, a bounded number at once.

        Args:
            max_age: Seconds since their end after which tasks are removed.
            max_count: How many ended tasks to keep at most; the oldest are removed.

        Returns:
            How many tasks were removed; call again until it is 0.
        """
        ...

    # What people do.

    async def retry(self, ids: Sequence[str]) -> list[str]:
        """Have ended tasks wait again, with all their deliveries left; return their ids."""
        ...

    async def cancel(self, ids: Sequence[str], reason: str) -> list[str]:
        """Cancel tasks that have not ended; return their ids."""
        ...

    async def pause(self, pause: Pause) -> None:
        """Hand out no task of an action or account, or to a provider; repeated calls are fine."""
        ...

    async def resume(self, pause: Pause) -> None:
        """End a pause; nothing happens if there is none."""
        ...

    # Reading.

    async def get(self, id: str) -> StoredTask | None:
        """Return a task; None if there is none with this id."""
        ...

    async def ended(self, ids: Sequence[str]) -> list[StoredTask]:
        """Return the tasks that have ended, of these ids."""
        ...

    async def attempts(self, id: str) -> list[Attempt]:
        """Return a task's attempts, oldest first."""
        ...

    async def search(
        self,
        where: TaskFilter,
        *,
        before: int | None = None,
        after: int | None = None,
        limit: int = 50,
        preview: int | None = None,
    ) -> list[StoredTask]:
        """Return tasks, the latest submitted first.

        Args:
            where: Which tasks.
            before: Only tasks with lower numbers: the last number of the page before.
            after: Only tasks with higher numbers.
            limit: The most tasks to return.
            preview: For a list: the most bytes of each payload, from its beginning; results are
                left out too. None for whole tasks.
        """
        ...

    async def count(
        self,
        where: TaskFilter,
        *,
        before: int | None = None,
        after: int | None = None,
        most: int = 10_000,
    ) -> int:
        """Return how many tasks a filter finds, but count no further than `most`."""
        ...

    async def find_end(
        self, where: TaskFilter, *, before: int | None = None, most: int
    ) -> int | None:
        """Return the number behind which a filter finds `most` tasks, as `after` of a search.

        Returns:
            None if it finds no more than `most` tasks.
        """
        ...

    async def counts(self) -> Mapping[str, Mapping[State, int]]:
        """Return the number of tasks by action and state."""
        ...

    async def endings(self, limit: int) -> list[Ending]:
        """Return how the tasks that ended last have ended, the latest first.

        Args:
            limit: The most tasks to return.
        """
        ...

    async def held(self) -> list[Scope]:
        """Return the groups that are over a limit: held, or in an episode, oldest first."""
        ...

    async def pauses(self) -> list[Pause]:
        """Return what is paused."""
        ...

    async def position(self, id: str) -> int:
        """Return how many tasks of its lane go before a waiting task; 0 if it does not wait."""
        ...

    # Tokens.

    async def add_token(self, token: StoredToken) -> bool:
        """Add a token; return False if the name is taken."""
        ...

    async def remove_token(self, name: str) -> bool:
        """Remove a token; return False if there is none with this name."""
        ...

    async def tokens(self) -> list[StoredToken]:
        """Return all tokens, by name."""
        ...
