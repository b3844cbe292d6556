"""keras-rs under Keras 3: its retrieval layers around scores of a batch.

`SamplingProbabilityCorrection` has the items' exact probabilities. Its
`RemoveAccidentalHits` is called as its documentation says, though in version 0.4.0 it
changes scores by 1e-40 only. It has no mask for other items of the row's user.
"""

import keras
import keras_rs
import tensorflow as tf

from benchmarks.quality import in_batch
from benchmarks.quality.rankers import Factors


class TwoTowers(keras.Model):
    def __init__(self, train, setting):
        super().__init__()
        self.setting = setting
        self.users = self.table("users", train.num_users)
        self.items = self.table("items", train.num_items)
        self.probabilities = tf.constant(in_batch.probabilities(train))
        self.correct = keras_rs.layers.SamplingProbabilityCorrection()
        self.remove_hits = keras_rs.layers.RemoveAccidentalHits()

    def table(self, name, size):
        shape = [size, self.setting["width"]]
        return self.add_weight(name=name, shape=shape, initializer="random_uniform")

    def call(self, batch):
        users, items = batch["users"], batch["items"]
        queries, candidates = (
            keras.ops.normalize(keras.ops.take(table * 1.0, ids, axis=0), axis=1)
            for table, ids in ((self.users, users), (self.items, items))
        )
        scores = queries @ keras.ops.transpose(candidates) / self.setting["temperature"]
        labels = keras.ops.eye(keras.ops.shape(users)[0])
        scores = self.correct(scores, tf.gather(self.probabilities, items))
        return self.remove_hits(
            scores, labels, tf.broadcast_to(items, tf.shape(scores))
        )


def fit(train, setting, seed):
    keras.utils.set_random_seed(seed)
    model = TwoTowers(train, setting)
    steps = in_batch.num_steps(train, setting)
    decay = keras.optimizers.schedules.CosineDecay(setting["rate"], steps)
    model.compile(
        keras.optimizers.Adam(decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    ids = tf.TensorSpec([setting["batch"]], tf.int32)
    data = tf.data.Dataset.from_generator(
        lambda: in_batch.batches(train, setting, seed), output_signature=(ids, ids)
    )
    places = tf.range(setting["batch"])
    data = data.map(lambda users, items: ({"users": users, "items": items}, places))
    model.fit(data.prefetch(2), verbose=2)
    tables = (model.users, model.items)
    return Factors(
        *(keras.ops.convert_to_numpy(keras.ops.normalize(t, axis=1)) for t in tables)
    )
