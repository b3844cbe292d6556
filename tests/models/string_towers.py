"""The README's model: string ids, towers and a task as attributes."""

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import CrossBatchMemory, StreamingFrequency
from tfrs_negatives.models import Model
from tfrs_negatives.tasks import Retrieval

USERS, ITEMS, DIM = 12, 30, 8


def tower(size):
    vocabulary = [str(i) for i in range(size)]
    return keras.Sequential(
        [
            keras.layers.StringLookup(vocabulary=vocabulary),
            keras.layers.Embedding(size + 1, DIM),
        ]
    )


@keras.utils.register_keras_serializable(package="string_towers")
class TwoTower(Model):
    def __init__(self, with_memory=False, **kwargs):
        super().__init__(**kwargs)
        self.with_memory = with_memory
        self.user_tower = tower(USERS)
        self.item_tower = tower(ITEMS)
        self.task = Retrieval(
            sampling_correction=StreamingFrequency(100),
            memory=CrossBatchMemory(20, DIM, num_keys=1) if with_memory else None,
        )

    def get_config(self):
        return {"with_memory": self.with_memory}

    def compute_loss(self, features, training=False):
        return self.task(
            self.user_tower(features["user"]),
            self.item_tower(features["item"]),
            candidate_ids=features["item"],
            query_keys=features["user"],
            training=training,
        )


@keras.utils.register_keras_serializable(package="string_towers")
class Scoring(TwoTower):
    """Has a `call` too: the score of a user and an item."""

    def call(self, features):
        users = self.user_tower(features["user"])
        return tf.reduce_sum(users * self.item_tower(features["item"]), axis=1)


def interactions(rows=96, batch=16):
    """User u likes items with the same remainder by 6."""
    rng = np.random.default_rng(2)
    users = rng.integers(0, USERS, rows)
    items = users % 6 + 6 * rng.integers(0, ITEMS // 6, rows)
    columns = {"user": users.astype(str), "item": items.astype(str)}
    return tf.data.Dataset.from_tensor_slices(columns).batch(batch)


def compiled(model_class=TwoTower, **options):
    model = model_class(**options)
    model.compile(keras.optimizers.Adam(0.05))
    return model


def trained(model_class=TwoTower, epochs=2, callbacks=(), **options):
    model = compiled(model_class, **options)
    batches = interactions()
    model.fit(
        batches,
        epochs=epochs,
        validation_data=batches,
        verbose=0,
        callbacks=list(callbacks),
    )
    return model
