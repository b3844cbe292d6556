"""Functions that take turns, and what their times come to."""

import numpy as np
import pytest

from benchmarks.common import costs, turns


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only where a function says so; a third of them are CPU time."""
    passed = [0.0]
    monkeypatch.setattr(costs, "now", lambda: (passed[0], passed[0] / 3))
    return passed


def test_functions_take_turns_after_one_that_is_not_timed(clock):
    calls = []

    def call(name, seconds):
        calls.append(name)
        # The first call of each takes long, as tracing does.
        clock[0] += seconds if calls.count(name) > 1 else 100.0

    functions = {"a": lambda: call("a", 3.0), "b": lambda: call("b", 6.0)}
    times = turns.alternate(functions, seconds=20.0, least=2)
    # Two turns of nine seconds are over before 20 s, three are not.
    assert calls == ["a", "b"] * 4
    np.testing.assert_allclose(times["a"], [[3.0, 1.0]] * 3)
    np.testing.assert_allclose(times["b"], [[6.0, 2.0]] * 3)


def test_times_are_of_a_call_and_turns_go_through_the_batches(clock):
    calls = []

    def call(name, batch):
        calls.append((name, batch))
        clock[0] += batch

    functions = {"a": lambda x: call("a", x), "b": lambda x: call("b", x)}
    times = turns.alternate(
        functions, 0, least=3, repeats={"a": 2, "b": 1}, batches=[(3.0,), (9.0,)]
    )
    first, second = ([("a", x), ("a", x), ("b", x)] for x in (3.0, 9.0))
    assert calls == first + first + second + first
    for name in "ab":
        np.testing.assert_allclose(times[name][:, 0], [3.0, 9.0, 3.0])


def test_who_goes_first_changes_only_when_asked(clock):
    for swap, expected in ((False, "abababab"), (True, "abbaabba")):
        calls = []
        functions = {name: lambda n=name, c=calls: c.append(n) for name in "ab"}
        turns.alternate(functions, 0, least=3, swap=swap)
        assert "".join(calls) == expected, swap


def test_ratios_are_medians_of_neighbouring_turns():
    # Turns of 1/2, 2 and 1/2 for the wall; the ratio of medians would be 6/4.
    above = [[1.0, 4.0], [8.0, 6.0], [6.0, 60.0]]
    below = [[2.0, 4.0], [4.0, 6.0], [12.0, 15.0]]
    assert turns.ratios(above, below) == (0.5, 1.0)
    assert turns.medians(np.array(above)) == {
        "turns": 3,
        "wall_ms": 6000.0,
        "cpu_ms": 6000.0,
    }


def test_share_of_a_step():
    found = turns.share_of_step(np.array([[1.1, 0.6]] * 5), np.array([[1.0, 0.5]] * 5))
    assert found == {
        "repeats": 5,
        "wall_ms": 1100.0,
        "wall_ms_without": 1000.0,
        "share_wall": 0.1,
        "cpu_ms": 600.0,
        "cpu_ms_without": 500.0,
        "share_cpu": 0.2,
    }
