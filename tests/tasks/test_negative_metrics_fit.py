"""Metrics of what a task trains against, in `fit` and on two replicas."""

import numpy as np
import pytest
import replica_training as replicas
import tensorflow as tf
from negative_metric_batch import ITEMS
from negative_metric_cases import results

from tfrs_negatives import metrics
from tfrs_negatives._keras import keras
from tfrs_negatives.layers import CrossBatchMemory, StreamingFrequency
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval


def everything():
    """With state, and with what looks at other replicas."""
    return Retrieval(
        temperature=0.5,
        remove_accidental_hits=True,
        sampling_correction=StreamingFrequency(64, num_hashes=2),
        memory=CrossBatchMemory(30, replicas.D, num_keys=2, warm_up_steps=1),
        reduction="sum_over_batch_size",
        global_negatives=True,
        negative_metrics=[
            metrics.FalseNegativeRate(),
            metrics.FalseNegativeRate("per_row", after_masks=False),
            metrics.MaskRate("in_batch"),
            metrics.MaskRate(of="rows"),
            metrics.NegativeHardness(),
            *metrics.NegativeHardness.each_source(),
            metrics.NegativeMix("memory"),
            metrics.PopularityShare(np.arange(1, 16), top=0.2),
            metrics.PopularityShare(np.arange(1, 16), top=0.2, by="mass"),
            metrics.DistinctKeys("user"),
        ],
        negative_metric_rows=None,
    )


def all_rules(rows):
    return replicas.all_rules(rows) | {"measured_positive_ids": rows["known"][:, :1]}


@pytest.mark.slow(reason="trains on two replicas, a trace for each")
def test_two_replicas_are_one(two_replicas):
    alone = replicas.Step(everything, extras=True, call=all_rules)
    for _, rows, extra in replicas.make_steps():
        rows = {name: tf.constant(values) for name, values in rows.items()}
        alone(rows, tf.constant(extra))

    with two_replicas.scope():
        step = replicas.Step(everything, extras=True, call=all_rules)
    run = tf.function(lambda *batch: two_replicas.run(step, args=batch))
    for split, rows, extra in replicas.make_steps():
        ends = np.cumsum(split[2])

        def part(context, rows=rows, ends=ends, extra=extra):
            place = context.replica_id_in_sync_group
            here = slice(ends[place - 1] if place else 0, ends[place])
            here = {name: tf.constant(values[here]) for name, values in rows.items()}
            return here, tf.constant(np.split(extra, 2)[place])

        run(*two_replicas.experimental_distribute_values_from_function(part))
    expected, found = results(alone.task), results(step.task)
    assert expected["negative_mix_memory"] > 0.1
    assert 1 < expected["distinct_keys_user"] < 12
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)

    def in_the_step():
        return [metric.result() for metric in step.task._negative_metrics]

    for values, value in zip(
        two_replicas.run(tf.function(in_the_step)), expected.values(), strict=True
    ):
        for one in two_replicas.experimental_local_results(values):
            np.testing.assert_allclose(one, value, rtol=1e-5)


class TwoTowers(Model):
    def __init__(self):
        super().__init__()
        self.users, self.items = (keras.layers.Embedding(ITEMS, 4) for _ in range(2))
        self.task = Retrieval(
            remove_accidental_hits=True,
            global_negatives=True,
            negative_metrics=[
                metrics.FalseNegativeRate(),
                metrics.MaskRate(),
                metrics.NegativeHardness(),
                metrics.DistinctKeys(),
            ],
            negative_metric_rows=None,
        )

    def compute_loss(self, features, training=False):
        return self.task(
            self.users(features["user"]),
            self.items(features["item"]),
            candidate_ids=features["item"],
            query_keys=features["user"],
            measured_positive_ids=features["liked"],
            compute_metrics=not training,
            training=training,
        )


def rows():
    rng = np.random.default_rng(0)
    features = {name: rng.integers(0, ITEMS, 46) for name in ("user", "item")}
    features["liked"] = rng.integers(0, ITEMS, (46, 2))
    # The last batch has 6 rows.
    return tf.data.Dataset.from_tensor_slices(features).batch(10)


def logged_tags(folder):
    from tensorboard.backend.event_processing import event_accumulator

    tags = set()
    for file in folder.rglob("events*"):
        events = event_accumulator.EventAccumulator(str(file))
        events.Reload()
        tags |= {
            tag
            for kind in events.Tags().values()
            if kind is not True and kind is not False
            for tag in kind
        }
    return tags


@pytest.mark.slow(reason="trains on two replicas, a trace for each")
def test_fit_logs_them(tmp_path, two_replicas):
    strategies = [tf.distribute.OneDeviceStrategy("CPU:0"), two_replicas]
    histories = []
    for place, strategy in enumerate(strategies):
        keras.utils.set_random_seed(1)
        with strategy.scope():
            model = TwoTowers()
            model.compile(optimizer=keras.optimizers.SGD(0.0))
        board = keras.callbacks.TensorBoard(tmp_path / str(place), write_graph=False)
        fitted = model.fit(rows(), epochs=2, verbose=0, callbacks=[board])
        histories.append(fitted.history)
    names = ["false_negative_rate", "mask_rate", "negative_hardness", "distinct_keys"]
    for name in names:
        one, two = (np.array(history[name]) for history in histories)
        # Nothing is learned, and each epoch begins anew.
        np.testing.assert_allclose(one[0], one[1], rtol=1e-4)
        np.testing.assert_allclose(two[0], two[1], rtol=1e-4)
        if name != "negative_hardness":  # Towers start elsewhere.
            np.testing.assert_allclose(one, two, rtol=1e-5, err_msg=name)
    assert {f"epoch_{name}" for name in names} <= logged_tags(tmp_path)
