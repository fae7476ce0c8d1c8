"""A gate for workers: so much at once and no more, and a wait that can be ended."""

import threading
import time

import pytest

from neuralcodec.core.gate import Gate


def run(gate, amounts):
    """Most that was inside at once."""
    inside, most, lock = [], [], threading.Lock()

    def work(amount):
        with gate.hold(amount):
            with lock:
                inside.append(amount)
                most.append(sum(inside))
            time.sleep(0.02)
            with lock:
                inside.remove(amount)

    threads = [threading.Thread(target=work, args=(a,)) for a in amounts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()
    assert len(most) == len(amounts)
    return max(most)


def test_amounts_inside_stay_within_the_limit():
    assert run(Gate(5), [2] * 8) <= 4


def test_what_fits_does_not_wait():
    gate = Gate(5)
    with gate.hold(2), gate.hold(3, lambda: pytest.fail("it waits")):
        pass


def test_one_alone_may_be_beyond_the_limit():
    assert run(Gate(5), [7, 7, 1]) == 7


def test_who_waits_can_be_stopped_and_takes_nothing():
    gate = Gate(1)

    def stop():
        raise KeyboardInterrupt

    with gate.hold(1), pytest.raises(KeyboardInterrupt), gate.hold(1, stop):
        pass
    assert run(gate, [1, 1]) == 1
