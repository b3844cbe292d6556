"""Saved on some replicas and restored on others, training goes on as on one.

All of it: weights, estimator, queue, the correction's schedule, and a variable that a
curriculum assigns before each step.
"""

import numpy as np
import pytest
import replica_training as replicas
import tensorflow as tf

NUM_HARD = [9, 7, 5, 4, 3]


class Run:
    """Training on some replicas, on one without a strategy."""

    def __init__(self, num_replicas, strategy=None):
        self.num_replicas = num_replicas
        self.strategy = strategy or tf.distribute.get_strategy()
        options = {"call": replicas.all_rules, "extras": True}
        with self.strategy.scope():
            self.num_hard = tf.Variable(99, trainable=False)
            self.step = replicas.Step(
                lambda: replicas.everything(num_hard_negatives=self.num_hard), **options
            )
        self.checkpoint = tf.train.Checkpoint(
            tables=self.step.tables, task=self.step.task, num_hard=self.num_hard
        )

    def train(self, begin, end):
        """Loss and gradients of some steps."""
        if self.num_replicas == 1:
            return replicas.run_alone(self.step, self._batches(begin, end))
        return replicas.run(
            self.strategy, self.num_replicas, self.step, self._batches(begin, end)
        )

    def _batches(self, begin, end):
        for place in range(begin, end):
            self.num_hard.assign(NUM_HARD[place])
            yield replicas.make_steps()[place]


@pytest.mark.slow(reason="trains on one, two and four replicas in turn")
def test_another_number_of_replicas(two_replicas, four_replicas, tmp_path):
    """From one to two, to four, and back to one for the last, uneven batch."""
    whole = Run(1)
    expected = whole.train(0, len(NUM_HARD))
    runs = [Run(1), Run(2, two_replicas), Run(4, four_replicas), Run(1)]
    history, path, before = [], None, None
    for place, (run, end) in enumerate(zip(runs, (1, 2, 4, 5), strict=True)):
        if path:
            run.checkpoint.restore(path).assert_consumed()
            assert int(run.num_hard.numpy()) == NUM_HARD[len(history) - 1]
            for found, saved in zip(run.step.state(), before, strict=True):
                np.testing.assert_array_equal(found, saved)
        history += run.train(len(history), end)
        path = run.checkpoint.save(tmp_path / str(place))
        before = run.step.state()
    replicas.compare(history + [before], expected + [whole.step.state()])
