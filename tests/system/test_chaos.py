"""Hubs that are killed, frozen and cut off, and providers that are killed, at random moments.

The hub and the provider are processes, and each keeps a record of its own that outlives it. In the
end the two are compared: each task that has reached the provider has one result, and that is what
its handler returned. `-m chaos` runs the long forms.
"""

from __future__ import annotations

import random
import threading

import attrs
import pytest
from support.gateways import Gateway
from support.processes import HubProcess, start_provider
from support.records import Account
from support.waiting import wait_until

from arbprov.outbox.sqlite import read_spool

CONCURRENCY = 8
SETTINGS = {
    "ARBPROV_CONCURRENCY": str(CONCURRENCY),
    # Short polls, so that a half-open connection is noticed soon.
    "ARBPROV_POLL_TIMEOUT": "3",
    "ARBPROV_SUBMIT_TIMEOUT": "2",
}


@attrs.define
class Scene:
    """A hub behind a gateway, and the disasters that they can have."""

    hub: HubProcess
    proxy: Gateway
    random: random.Random

    def kill(self) -> None:
        """The hub dies, and comes back on another port."""
        self.hub.kill()
        self.pause(0.3)
        self.hub.start()
        self.proxy.target = self.hub.address

    def freeze(self) -> None:
        """The hub freezes for a while, then goes on."""
        self.hub.freeze()
        self.pause(2.0)
        self.hub.thaw()

    def freeze_to_death(self) -> None:
        self.hub.freeze()
        self.pause(0.5)
        self.kill()

    def stall(self) -> None:
        """The network holds all bytes back for a while."""
        self.proxy.stall()
        self.pause(2.0)
        self.proxy.let_pass()

    def half_open(self) -> None:
        """The open connections die without a reset."""
        self.proxy.half_open()

    def cut(self) -> None:
        """The connections are reset."""
        self.proxy.cut()

    def refuse(self) -> None:
        """The connections are reset, and so is each new one for a while."""
        self.proxy.reset()
        self.pause(0.5)
        self.proxy.let_pass()

    def forbid(self) -> None:
        """The gateway answers 403 to every request for a while."""
        self.answer(403)

    def bad_gateway(self) -> None:
        """The gateway cannot reach the hub for a while."""
        self.answer(502)

    def answer(self, code: int) -> None:
        self.proxy.answer(code)
        self.pause(1.0)
        self.proxy.let_pass()

    def pause(self, most: float) -> None:
        # No event ends a disaster.
        threading.Event().wait(self.random.random() * most)


DISASTERS = (
    Scene.kill,
    Scene.freeze,
    Scene.freeze_to_death,
    Scene.stall,
    Scene.half_open,
    Scene.cut,
    Scene.refuse,
)


GATEWAY_DISASTERS = (Scene.forbid, Scene.bad_gateway)


def disasters(chance, times, kinds):
    """Return each kind of disaster a number of times, in a random order."""
    planned = [*kinds] * times
    chance.shuffle(planned)
    return planned


def live_through(scene, planned, count):
    """Have each disaster after some more results; return when all tasks are handed out."""
    share = count // (len(planned) + 1)
    for number, disaster in enumerate(planned, 1):
        enough = scene.hub.results + scene.random.randint(share // 2, share * 3 // 2)
        wait_until(lambda enough=enough: scene.hub.results >= enough or scene.hub.handed == count)
        scene.pause(0.02)
        disaster(scene)
        print(f"{number}. {disaster.__name__}, {scene.hub.results} results")
    wait_until(lambda: scene.hub.handed == count)


def storm(folder, seed, count, times, kinds=DISASTERS, **orders):
    print(f"seed {seed}")
    chance = random.Random(seed)
    planned = disasters(chance, times, kinds)
    with (
        HubProcess(folder, count=count, repeats=0.02, **orders) as hub,
        Gateway(hub.address) as proxy,
    ):
        provider = start_provider(folder, proxy.address, **SETTINGS)
        try:
            live_through(Scene(hub, proxy, chance), planned, count)
            took = provider.stop()
        finally:
            provider.kill()
    account = Account.of(folder)
    print(
        f"{account.handed} tasks handed out, {account.lost} lost on the wire, "
        f"{len(account.received)} received, {account.repeated} results sent again; "
        f"{len(planned)} disasters; stopped within {took:.2f} s"
    )
    assert provider.popen.returncode == 0, provider.log
    assert account.complaints() == []
    assert not account.interrupted
    assert account.begun.keys() == account.received
    assert account.lost <= CONCURRENCY * len(planned)


@pytest.mark.slow
def test_each_received_task_has_its_one_result_whatever_befalls_the_hub(tmp_path):
    storm(tmp_path, seed=1, count=700, times=1)


@pytest.mark.long
@pytest.mark.chaos
@pytest.mark.parametrize("age", [0, 1500])
def test_each_of_twenty_thousand_tasks_has_its_one_result(tmp_path, age):
    storm(tmp_path, seed=random.randrange(10**6), count=20_000, times=8, age=age)


@pytest.mark.slow
def test_a_proxy_that_answers_403_and_502_now_and_then_costs_no_result(tmp_path):
    storm(tmp_path, seed=1, count=700, times=3, kinds=GATEWAY_DISASTERS)


@pytest.mark.long
@pytest.mark.chaos
def test_a_proxy_that_answers_403_and_502_costs_none_of_twenty_thousand_results(tmp_path):
    seed = random.randrange(10**6)
    storm(tmp_path, seed=seed, count=20_000, times=30, kinds=GATEWAY_DISASTERS)


@pytest.mark.slow
def test_each_task_has_its_own_result_whatever_an_isolated_handler_logs(tmp_path):
    storm(tmp_path, seed=2, count=200, times=1, kinds=(Scene.kill, Scene.cut), isolated=True)


@pytest.mark.long
@pytest.mark.chaos
def test_of_five_thousand_tasks_each_has_its_own_result_whatever_is_logged(tmp_path):
    storm(tmp_path, seed=random.randrange(10**6), count=5_000, times=2, isolated=True)


# Providers that are killed.


def kill_at_random(folder, hub, chance, kills, count):
    """Kill a provider several times; return the ids in its spool, and the last process."""
    noted = set()
    for kill in range(kills):
        provider = start_provider(folder, f"unix:{folder}/hub", **SETTINGS, ARBPROV_SPOOL="spool")
        enough = hub.results + chance.randint(1, count // (kills + 1))
        wait_until(lambda enough=enough: hub.results >= enough)
        if kill % 3 == 2:
            hub.kill()
        provider.kill()
        noted |= {entry.id for entry in read_spool(folder / "spool")}
        if kill % 3 == 2:
            hub.start()
    provider = start_provider(folder, f"unix:{folder}/hub", **SETTINGS, ARBPROV_SPOOL="spool")
    wait_until(lambda: hub.handed == count)
    provider.stop()
    return noted, provider


def slaughter(folder, seed, count, kills):
    print(f"seed {seed}")
    with HubProcess(folder, f"unix:{folder}/hub", count=count, repeats=0.02) as hub:
        noted, last = kill_at_random(folder, hub, random.Random(seed), kills, count)
    account = Account.of(folder)
    owed = noted | set(account.begun)
    print(
        f"{account.handed} tasks handed out, {len(owed)} noted or begun, "
        f"{len(account.interrupted)} interrupted, {account.repeated} results sent again; "
        f"{kills} kills"
    )
    assert last.popen.returncode == 0, last.log
    assert account.complaints(owed) == []
    assert 0 < len(account.interrupted) <= CONCURRENCY * kills
    assert account.handed - len(owed) <= CONCURRENCY * kills * 4 // 3
    assert [entry.id for entry in read_spool(folder / "spool")] == []


@pytest.mark.slow
def test_a_killed_provider_with_a_spool_answers_for_each_task_and_runs_none_twice(tmp_path):
    slaughter(tmp_path, seed=1, count=700, kills=4)


@pytest.mark.long
@pytest.mark.chaos
def test_a_provider_that_is_killed_sixty_times_answers_for_each_of_twenty_thousand_tasks(tmp_path):
    slaughter(tmp_path, seed=random.randrange(10**6), count=20_000, kills=60)
