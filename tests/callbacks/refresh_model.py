"""A small two-tower model whose per-row negatives are mined while it trains."""

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import keras
from tfrs_negatives.callbacks import RefreshNegatives
from tfrs_negatives.index import BruteForce
from tfrs_negatives.models import Model
from tfrs_negatives.samplers import Mined

USERS, ITEMS, DIM, WIDTH = 12, 30, 4, 6
NAMES = np.array([f"item {i}" if i != 4 else "" for i in range(ITEMS)])
# User ids are row numbers plus this: negative ones, -1 among them.
SHIFT = -5


class Towers(Model):
    """Scores are products; the step writes down which negatives it sees."""

    def __init__(self):
        super().__init__()
        self.user_tower = keras.layers.Embedding(USERS, DIM)
        self.item_tower = keras.layers.Embedding(ITEMS, DIM)
        self.num_traces = 0
        self.seen = []

    def compute_loss(self, features, training=False):
        self.num_traces += training
        users = self.user_tower(features["user"])
        positives = self.item_tower(features["item"])
        negatives = self.item_tower(features["negatives"])
        tf.py_function(self._see, [features["user"], features["negatives"]], [])
        scores = tf.einsum("bd,bmd->bm", users, negatives)
        margin = tf.reduce_sum(users * positives, axis=1, keepdims=True) - scores
        return tf.reduce_mean(tf.math.softplus(-margin))

    def _see(self, users, negatives):
        rows = zip(users.numpy().tolist(), negatives.numpy().tolist(), strict=True)
        self.seen.append({(user, item) for user, items in rows for item in items})


def sampler(table=None):
    """Every user's table row is the first items, in an order of its own."""
    if table is None:
        table = np.tile(NAMES[:WIDTH], [USERS, 1])
    return Mined(
        {"name": NAMES, "row": np.arange(ITEMS, dtype=np.int32)},
        table,
        "user",
        row_ids=np.arange(USERS) + SHIFT,
        id_feature="name",
    )


def candidates(batch=7):
    columns = (NAMES, np.arange(ITEMS, dtype=np.int32))
    return tf.data.Dataset.from_tensor_slices(columns).batch(batch)


def queries(batch=5):
    """Users from the last to the first, and one that the table lacks."""
    rows = np.arange(USERS, dtype=np.int64)[::-1]
    columns = (np.r_[rows + SHIFT, 999], np.r_[rows, 0])
    return tf.data.Dataset.from_tensor_slices(columns).batch(batch)


def interactions(mined, steps, batch=8):
    rng = np.random.default_rng(0)
    columns = {
        "row": rng.integers(0, USERS, steps * batch),
        "item": rng.integers(0, ITEMS, steps * batch),
    }
    columns["user"] = columns["row"] + SHIFT
    dataset = tf.data.Dataset.from_tensor_slices(columns).batch(batch)
    dataset = mined.attach(dataset, 3, per_row=True)
    # Embeddings take row numbers; the table was asked by ids.
    return dataset.map(
        lambda x: {
            "user": x["row"],
            "item": x["item"],
            "negatives": x["negatives"]["row"],
        }
    )


def compiled(optimizer=None):
    model = Towers()
    model.compile(optimizer=optimizer or keras.optimizers.Adam(0.1))
    return model


def refresher(mined, model, **options):
    """The callback for the query side."""
    return RefreshNegatives(
        mined,
        BruteForce(),
        candidates(),
        model.item_tower,
        queries(),
        model.user_tower,
        **options,
    )


def hardest(model, width=WIDTH, positives=None):
    """The items [USERS, width] of highest score, by NumPy."""
    users = model.user_tower.get_weights()[0].astype(float)
    items = model.item_tower.get_weights()[0].astype(float)
    scores = users @ items.T
    for row, known in enumerate(positives or []):
        scores[row, known] = -np.inf
    return np.argsort(-scores, axis=1, kind="stable")[:, :width]


class Recorder(keras.callbacks.Callback):
    """Notes the table, its step and what would be hardest, before each batch."""

    def __init__(self, mined):
        super().__init__()
        self.mined, self.tables, self.refreshed_at, self.best = mined, [], [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.tables.append(self.mined.table.numpy())
        self.refreshed_at.append(int(self.mined.refreshed_at.numpy()))
        # Under Keras 3 the model is built by its first batch.
        self.best.append(hardest(self.model) if self.model.user_tower.built else None)


def fit(model, mined, steps, *callbacks, epochs=1, batch_size=8):
    return model.fit(
        interactions(mined, steps, batch_size),
        epochs=epochs,
        verbose=0,
        callbacks=list(callbacks),
    )


def arguments(**changed):
    mined, model = sampler(), compiled()
    return {
        "sampler": mined,
        "index": BruteForce(),
        "candidates": candidates(),
        "candidate_tower": model.item_tower,
        "queries": queries(),
        "query_tower": model.user_tower,
        **changed,
    }
