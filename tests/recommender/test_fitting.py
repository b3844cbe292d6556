"""What a fit says of its time."""

import numpy as np
import pytest

from tfrs_negatives.recommender import fitting


def timed(monkeypatch, ends):
    """A timer of steps that each begin where the one before ended, at first at 0."""
    now = [0.0]
    monkeypatch.setattr(fitting.time, "perf_counter", lambda: now[0])
    timer = fitting.StepTimer()
    for end in ends:
        timer.on_train_batch_begin(0)
        now[0] = end
        timer.on_train_batch_end(0)
    return timer


def test_first_steps_do_not_count(monkeypatch):
    timer = timed(monkeypatch, [10, 20, 30, 40, 50, 50.5, 51, 51.5, 53.5])
    assert timer.median_ms() == 500
    # The last batch has 30 rows: 3 * 64 + 30 in 3.5 s.
    assert timer.rows_a_second(np.array([64] * 8 + [30])) == pytest.approx(222 / 3.5)


@pytest.mark.parametrize(
    ("ends", "sizes", "expected"),
    [([2], [10], 5), ([2, 3], [10, 10], 10), ([2, 3, 5], [10, 10, 5], 2.5)],
)
def test_few_steps(monkeypatch, ends, sizes, expected):
    assert timed(monkeypatch, ends).rows_a_second(np.array(sizes)) == expected


def test_batches_smaller_than_the_batch_size(monkeypatch):
    sizes = fitting.batch_sizes(200, 1024, 20)
    assert sizes.tolist() == [200] * 20
    timer = timed(monkeypatch, range(1, 21))
    assert timer.rows_a_second(sizes) == 200


def test_a_partial_batch_among_the_first_steps(monkeypatch):
    sizes = fitting.batch_sizes(25, 10, 8)
    assert sizes.tolist() == [10, 10, 5, 10, 10, 5, 10, 10]
    timer = timed(monkeypatch, range(1, 9))
    assert timer.rows_a_second(sizes) == pytest.approx(25 / 3)
