"""Blocks of rows, and work in threads."""

import os
import threading
import time

import numpy as np
import pytest

from tfrs_negatives.teachers import parallel_blocks


@pytest.mark.parametrize("limit", [1, 7, 100, 10_000])
def test_blocks_of_cost(limit):
    costs = np.random.default_rng(0).integers(0, 50, 80)
    blocks = parallel_blocks.blocks_of_cost(costs, limit)
    rows = [row for block in blocks for row in range(block.start, block.stop)]
    assert rows == list(range(80))
    for block in blocks:
        assert costs[block].sum() < limit + costs[block].max() + 1
    assert parallel_blocks.blocks_of_cost(costs[:0], limit) == []


@pytest.mark.parametrize("size", [0, 1, 3, 10, 11])
def test_even_blocks(size):
    blocks = parallel_blocks.even_blocks(10, size)
    rows = [row for block in blocks for row in range(block.start, block.stop)]
    assert rows == list(range(10))
    assert {b.stop - b.start for b in blocks[:-1]} <= {max(size, 1)}
    assert parallel_blocks.even_blocks(0, size) == []


def test_results_are_in_order_and_several_work_at_once(capfd):
    meeting = threading.Barrier(3, timeout=30)

    def work(block):
        meeting.wait()  # Passes once three are there.
        return block.start

    blocks = parallel_blocks.even_blocks(6, 1)
    found = list(parallel_blocks.in_parallel(work, blocks, 3, True, "row"))
    assert found == [0, 1, 2, 3, 4, 5]
    assert "6/6" in capfd.readouterr().out
    list(parallel_blocks.in_parallel(lambda b: 0, blocks, None, False, "row"))
    assert capfd.readouterr().out == ""


def test_an_error_ends_the_rest():
    done = []

    def work(block):
        done.append(block.start)
        if block.start == 0:
            raise ValueError("no")
        time.sleep(0.01)  # All would take ten seconds.

    blocks = parallel_blocks.even_blocks(1000, 1)
    with pytest.raises(ValueError, match="no"):
        list(parallel_blocks.in_parallel(work, blocks, 1, False, "row"))
    assert len(done) < 1000


def test_cores():
    assert 1 <= parallel_blocks.num_cores() <= os.cpu_count()
