"""`tfrs.tasks.Retrieval` as it comes, with or without what it can correct.

With `corrections` it is given the items' exact probabilities and told to remove
accidental hits; without, nothing.
"""

import tensorflow as tf
import tensorflow_recommenders as tfrs

from benchmarks.quality import in_batch
from benchmarks.quality.rankers import Factors


class TwoTowers(tfrs.Model):
    def __init__(self, train, setting):
        super().__init__()
        self.setting = setting
        self.users = self.table("users", train.num_users)
        self.items = self.table("items", train.num_items)
        self.probabilities = tf.constant(in_batch.probabilities(train))
        self.task = tfrs.tasks.Retrieval(
            tf.keras.losses.CategoricalCrossentropy(
                from_logits=True, reduction="sum_over_batch_size"
            ),
            temperature=setting["temperature"],
            remove_accidental_hits=setting["corrections"],
        )

    def table(self, name, size):
        shape = [size, self.setting["width"]]
        return self.add_weight(name=name, shape=shape, initializer="random_uniform")

    def compute_loss(self, batch, training=False):
        users, items = batch["users"], batch["items"]
        options = {}
        if self.setting["corrections"]:
            options["candidate_ids"] = items
            options["candidate_sampling_probability"] = tf.gather(
                self.probabilities, items
            )
        return self.task(
            self.embed(self.users, users),
            self.embed(self.items, items),
            compute_metrics=False,
            **options,
        )

    def embed(self, table, ids):
        # Through a dense gradient: Adam moves every row anyway.
        return tf.math.l2_normalize(tf.gather(table * 1.0, ids), axis=1)


def fit(train, setting, seed):
    tf.keras.utils.set_random_seed(seed)
    model = TwoTowers(train, setting)
    steps = in_batch.num_steps(train, setting)
    decay = tf.keras.optimizers.schedules.CosineDecay(setting["rate"], steps)
    model.compile(tf.keras.optimizers.legacy.Adam(decay))
    ids = tf.TensorSpec([None], tf.int32)
    data = tf.data.Dataset.from_generator(
        lambda: in_batch.batches(train, setting, seed), output_signature=(ids, ids)
    )
    data = data.map(lambda users, items: {"users": users, "items": items})
    model.fit(data.prefetch(2), verbose=2)
    return Factors(
        *(tf.math.l2_normalize(t, axis=1).numpy() for t in (model.users, model.items))
    )
