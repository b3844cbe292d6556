"""A model that learns from shared and from mined negatives at once."""

import numpy as np
import tensorflow as tf
from grids import only_under
from sampler_oracles import rows_dataset

from tfrs_negatives._keras import keras
from tfrs_negatives.layers import MixedLogQ, StreamingFrequency
from tfrs_negatives.models import Model
from tfrs_negatives.samplers import Mined, Mixture, Popularity, Uniform
from tfrs_negatives.tasks import Retrieval

USERS, ITEMS = 6, 30


class TwoTower(Model):
    def __init__(self, shared):
        super().__init__()
        self.users = keras.layers.Embedding(USERS, 8)
        self.items = keras.layers.Embedding(ITEMS, 8)
        log_q = MixedLogQ([StreamingFrequency(1000), shared.log_q])
        self.task = Retrieval(temperature=0.5, sampling_correction=log_q)
        self.traces = []
        self.seen = tf.Variable(tf.zeros([ITEMS], tf.int32), trainable=False)

    def compute_loss(self, features, training=False):
        self.traces.append(training)
        ids = tf.concat([features["item"], features["negatives"]], axis=0)
        used = tf.boolean_mask(features["mined"], features["mined_mask"])
        self.seen.scatter_nd_add(used[:, tf.newaxis], tf.ones_like(used, tf.int32))
        return self.task(
            self.users(features["user"]),
            self.items(ids),
            candidate_ids=ids,
            query_keys=features["user"],
            negative_embeddings=self.items(features["mined"]),
            negative_ids=features["mined"],
            negative_mask=features["mined_mask"],
            negative_log_q=features["mined_log_q"],
            training=training,
        )


@only_under(keras_3=True, reason="the same sampler under Keras 3")
def test_fit_follows_a_new_table_without_retracing():
    corpus = np.arange(ITEMS)
    shared = Mixture([Uniform(corpus), Popularity(corpus, 1 + corpus, 1.0)], [1, 1])
    first = np.arange(0, 12).reshape(USERS, 2)
    mined = Mined(corpus, first, "user")
    # User u takes item u + 18.
    users = np.arange(24) % USERS
    rows = rows_dataset(10, 24, user=users, item=users + USERS * 3)
    dataset = shared.attach(rows, 5)
    dataset = mined.attach(dataset, 2, per_row=True, exclude="item", name="mined")
    model = TwoTower(shared)
    model.compile(optimizer=keras.optimizers.Adam(0.05))
    model.fit(dataset, epochs=3, verbose=0)
    scores = model.users.embeddings @ tf.transpose(model.items.embeddings)
    np.testing.assert_array_equal(np.argmax(scores, axis=1), np.arange(USERS) + 18)
    traces = len(model.traces)
    assert set(np.flatnonzero(model.seen)) == set(range(12))
    model.seen.assign(tf.zeros_like(model.seen))
    mined.assign(first + 12, step=30)
    model.fit(dataset, verbose=0)
    # Of the new table's items, 23 is in its user's row, who has it as positive.
    assert set(np.flatnonzero(model.seen)) == set(range(12, 23))
    assert len(model.traces) == traces
