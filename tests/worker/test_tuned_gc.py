"""The garbage collector of a process that runs tasks."""

import gc
import socket
import warnings

import pytest

from arbprov.worker.run import tuned_gc


@pytest.fixture(autouse=True)
def collector():
    thresholds = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*thresholds)
    gc.unfreeze()
    gc.enable()


def test_the_threshold_grows_with_the_tasks_in_flight():
    with tuned_gc(10):
        few = gc.get_threshold()[0]
    with tuned_gc(100):
        assert gc.get_threshold() == (10 * few, 10, 10)


def test_the_thresholds_are_restored():
    with pytest.raises(ZeroDivisionError), tuned_gc(100):
        raise ZeroDivisionError
    assert gc.get_threshold() == (700, 10, 10)


def test_a_higher_threshold_is_kept():
    gc.set_threshold(50_000, 20, 20)
    with tuned_gc(10):
        assert gc.get_threshold() == (50_000, 20, 20)


@pytest.mark.parametrize("off", [gc.disable, lambda: gc.set_threshold(0)])
def test_a_collector_that_is_off_is_left_alone(off):
    off()
    before = gc.get_threshold()
    with tuned_gc(100):
        assert gc.get_threshold() == before


def test_objects_made_before_are_frozen_until_the_end():
    with tuned_gc(1):
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0


def test_objects_that_the_author_has_frozen_stay_frozen():
    gc.freeze()
    with tuned_gc(1):
        pass
    assert gc.get_freeze_count() > 0


class Connection:
    """Owns a socket and closes it when it is collected, as a database client's does."""

    def __init__(self):
        self.itself = self
        self.socket = None

    def __del__(self):
        self.socket.close()


def test_the_owner_of_a_socket_is_collected_before_it():
    gc.disable()
    with warnings.catch_warnings(record=True) as caught, tuned_gc(1):
        connection = Connection()
        gc.collect(0)  # it is of an older generation than its socket
        connection.socket = socket.socket()
        del connection
    assert caught == []


def test_a_frozen_owner_of_a_socket_is_collected_before_it():
    gc.disable()
    connection = Connection()
    with tuned_gc(1):
        connection.socket = socket.socket()
    del connection
    with warnings.catch_warnings(record=True) as caught:
        gc.collect()
    assert caught == []


def test_a_cycle_that_a_task_leaves_behind_is_still_collected():
    collected = 0

    def count(phase, info):
        nonlocal collected
        collected += info["collected"] if phase == "stop" else 0

    gc.callbacks.append(count)
    try:
        with tuned_gc(10):
            for _ in range(5_000):
                cycle = []
                cycle.append(cycle)
            assert collected > 0
    finally:
        gc.callbacks.remove(count)
