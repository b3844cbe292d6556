"""A model with all the state there is, on one replica or several."""

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import CrossBatchMemory, StreamingFrequency
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval

ITEMS, DIM = 20, 4


class TwoTower(Model):
    """String features, synchronised batch normalisation, all state there is."""

    def __init__(self, regularizer=None, global_negatives=True):
        super().__init__()
        self.user_tower = self._tower(1, regularizer)
        self.item_tower = self._tower(2, None)
        self.task = Retrieval(
            remove_accidental_hits=True,
            sampling_correction=StreamingFrequency(500, num_hashes=2),
            memory=CrossBatchMemory(40, DIM, num_keys=1),
            reduction="sum_over_batch_size",
            global_negatives=global_negatives,
            batch_metrics=[keras.metrics.MeanSquaredError(name="squares")],
        )

    def _tower(self, seed, regularizer):
        init = keras.initializers.RandomUniform(-1.0, 1.0, seed=seed)
        return keras.Sequential(
            [
                keras.layers.StringLookup(vocabulary=[str(i) for i in range(ITEMS)]),
                keras.layers.Embedding(ITEMS + 1, DIM, init, regularizer),
                keras.layers.BatchNormalization(synchronized=True),
            ]
        )

    def compute_loss(self, features, training=False):
        return self.task(
            self.user_tower(features["user"], training=training),
            self.item_tower(features["item"], training=training),
            candidate_ids=features["item"],
            query_keys=features["user"],
            training=training,
        )


def rows(num_rows=55, batch=15):
    """Batches that do not divide by two, the last one short."""
    rng = np.random.default_rng(0)
    columns = {name: rng.integers(0, ITEMS, num_rows) for name in ("user", "item")}
    columns = {name: values.astype(str) for name, values in columns.items()}
    return tf.data.Dataset.from_tensor_slices(columns).batch(batch)


def one_replica():
    return tf.distribute.OneDeviceStrategy("CPU:0")


def compiled(strategy, steps_per_execution=1, **options):
    with strategy.scope():
        model = TwoTower(**options)
        # Adam would blow up the rounding of gradients that are nothing but rounding:
        # a softmax does not see a shift of all items.
        optimizer = keras.optimizers.SGD(0.2, momentum=0.9)
        model.compile(optimizer, steps_per_execution=steps_per_execution)
    return model


def state(model):
    return [np.asarray(v.numpy()) for v in model.variables if v.dtype != "string"]
