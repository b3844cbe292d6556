"""One of two workers that train `everything`, each on its share of every batch.

    replica_worker.py RESULT

Writes to RESULT, an .npz file, what it saw: loss and gradients of each step, state, and
metrics. Workers find each other by TF_CONFIG.
"""

import sys

import numpy as np
import replica_training as replicas
import tensorflow as tf

from tfrs_negatives import metrics
from tfrs_negatives._keras import keras

CORPUS = np.random.default_rng(5).normal(size=[30, replicas.D]).astype("float32")


def measured():
    """A task with all that has state, and with each kind of metric."""
    candidates = tf.data.Dataset.from_tensor_slices((np.arange(30), CORPUS)).batch(12)
    return replicas.everything(
        metrics=metrics.CorpusRecall(candidates, [1, 5]),
        batch_metrics=keras.metrics.TopKCategoricalAccuracy(2, name="top_2"),
        negative_metrics=[
            metrics.FalseNegativeRate(after_masks=False),
            metrics.MaskRate(),
            metrics.NegativeHardness(),
            metrics.NegativeMix("memory"),
        ],
        negative_metric_rows=None,
    )


def results(task):
    """Numbers of all metrics, by name."""
    found = {}
    for metric in task.metrics:
        value = metric.result()
        for name, part in value.items() if isinstance(value, dict) else [("", value)]:
            found[f"metric {metric.name} {name}"] = np.asarray(part)
    return found


def train(strategy=None):
    """Loss and gradients, state and metrics as named arrays."""
    options = {"make_task": measured, "call": replicas.all_rules, "extras": True}
    if strategy is None:
        step = replicas.Step(**options)
        history = replicas.run_alone(step, replicas.make_steps())
    else:
        with strategy.scope():
            step = replicas.Step(**options)
        history = replicas.run(strategy, 2, step, replicas.make_steps())
    named = {f"state {place}": value for place, value in enumerate(step.state())}
    for place, outputs in enumerate(history):
        named |= {f"step {place}, {i}": value for i, value in enumerate(outputs)}
    return named | results(step.task)


if __name__ == "__main__":
    np.savez(sys.argv[1], **train(tf.distribute.MultiWorkerMirroredStrategy()))
