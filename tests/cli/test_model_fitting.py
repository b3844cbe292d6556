"""What a fit says of its time."""

import pytest

from tfrs_negatives.cli import model_fitting


def timed(monkeypatch, ends):
    """A timer of steps that each begin where the one before ended, at first at 0."""
    now = [0.0]
    monkeypatch.setattr(model_fitting.time, "perf_counter", lambda: now[0])
    timer = model_fitting.StepTimer()
    for end in ends:
        timer.on_train_batch_begin(0)
        now[0] = end
        timer.on_train_batch_end(0)
    return timer


def test_first_steps_do_not_count(monkeypatch):
    timer = timed(monkeypatch, [10, 20, 30, 40, 50, 50.5, 51, 51.5, 53.5])
    assert timer.median_ms() == 500
    # The last batch has 30 rows: 3 * 64 + 30 in 3.5 s.
    assert timer.rows_a_second(8 * 64 + 30, 64) == pytest.approx(222 / 3.5)


@pytest.mark.parametrize(
    ("ends", "rows", "expected"), [([2], 10, 5), ([2, 3], 20, 10), ([2, 3, 5], 25, 2.5)]
)
def test_few_steps(monkeypatch, ends, rows, expected):
    assert timed(monkeypatch, ends).rows_a_second(rows, 10) == expected
