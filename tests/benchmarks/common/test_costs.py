"""What runs cost."""

import sys

import numpy as np
import pytest

from benchmarks.common import costs

MIB = 2**20


def test_peak_is_the_most_since_it_was_forgotten():
    held = np.ones(64 * MIB, np.uint8)
    assert costs.peak_mib() >= costs.resident_mib() - 1
    del held
    costs.forget_peak()
    before = costs.resident_mib()
    assert costs.peak_mib() - before < 16
    held = np.ones(64 * MIB, np.uint8)
    del held
    assert costs.peak_mib() - before > 48


def test_seconds_since_tell_waiting_from_work():
    start = costs.now()
    while costs.since(start)[1] < 0.05:
        pass
    wall, cpu = costs.since(start)
    assert wall >= 0.04 and 0.05 <= cpu < 10


def test_of_a_command_are_its_own():
    script = "import time; block = bytes(2**27); time.sleep(0.2)"
    found = costs.of_command([sys.executable, "-c", script])

    assert found["seconds"] >= 0.2
    assert 0 < found["cpu_seconds"] < found["seconds"]
    assert found["peak_mib"] > 128


def test_a_command_that_fails_ends_the_run():
    with pytest.raises(SystemExit, match="exit\\(3\\) failed"):
        costs.of_command([sys.executable, "-c", "exit(3)"])
