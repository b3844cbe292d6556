"""Two towers of ids, trained with this package and the options of a setting.

Settings, beside those of the peers (width, temperature, rate, batch, epochs): `log_q`
is None, "exact" or "streaming", `positive` what it does to the row's own and
`negative_weight` what the others weigh; `accidental_hits`, `same_key` and `known`, all
that the user has, are what is dropped; `uniform` and `memory` are numbers of further
negatives, `hard` how many of the hardest of a row are kept. `taught` is the share of a
row's weight that what `teachers.py` suggests to its user gets. `distinct` embeds what
repeats in a batch once: the same loss, cheaper where batches are large. `bias` is a
share of the log of an item's count that is one dimension of its score.
`margin` is that of a false-negative filter whose guide are the towers. `shared` is the
share of a row's weight that other items of its user in the batch get. `top_k` is the K
of `losses.top_k_weights`, whose K-th scores are those of all items after each epoch but
the first.
"""

import numpy as np
import tensorflow as tf

from benchmarks.quality import in_batch
from benchmarks.quality.models import teachers
from benchmarks.quality.rankers import Factors
from tfrs_negatives import layers, losses, models, samplers, tasks

keras = tf.keras

PLAIN = {
    "log_q": None,
    "positive": "all",
    "negative_weight": None,
    "accidental_hits": False,
    "same_key": False,
    "known": False,
    "uniform": 0,
    "memory": 0,
    "hard": None,
    "taught": 0.0,
    "bias": 0.0,
    "distinct": False,
    "margin": None,
    "shared": 0.0,
    "top_k": None,
}


class TwoTowers(models.Model):
    def __init__(self, train, setting, uniform, steps, global_negatives=False):
        super().__init__()
        self.setting = setting
        self.users = self.table("users", train.num_users)
        self.items = self.table("items", train.num_items)
        counts = np.maximum(train.item_counts(), 1).astype(np.float32)
        scale = setting["temperature"] * setting["bias"]
        self.biases = tf.constant(scale * np.log(counts)[:, np.newaxis])
        needs_known = setting["known"] or setting["shared"]
        self.known = known_items(train) if needs_known else None
        # Of each user, once there are any; below all scores until then.
        self.kth_scores = tf.Variable(
            tf.fill([train.num_users], -np.inf), trainable=False, name="kth_scores"
        )
        memory = None
        if setting["memory"]:
            memory = layers.CrossBatchMemory(
                setting["batch"] + setting["memory"],
                setting["width"],
                num_keys=int(setting["same_key"]),
                warm_up_steps=steps // setting["epochs"],
            )
        self.task = tasks.Retrieval(
            temperature=setting["temperature"],
            remove_accidental_hits=setting["accidental_hits"],
            sampling_correction=correction(train, setting, uniform),
            positive=setting["positive"],
            negative_weight=setting["negative_weight"],
            false_negative_filter=setting["margin"]
            and losses.FalseNegativeFilter(margin=setting["margin"]),
            target_share=setting["taught"] or setting["shared"] or None,
            absent_targets="drop" if setting["shared"] else "error",
            memory=memory,
            num_hard_negatives=setting["hard"],
            reduction="mean_with_sample_weight"
            if setting["top_k"]
            else "sum_over_batch_size",
            global_negatives=global_negatives,
        )

    def table(self, name, size):
        shape = [size, self.setting["width"] - (self.setting["bias"] > 0)]
        return self.add_weight(name=name, shape=shape, initializer="random_uniform")

    def compute_loss(self, batch, training=False):
        items, options = batch["items"], {}
        if self.setting["uniform"]:
            items = tf.concat([items, batch["uniform"]], axis=0)
        if self.setting["same_key"]:
            options["query_keys"] = batch["users"]
        if self.known is not None:
            known = tf.gather(self.known, batch["users"])
            if self.setting["known"]:
                options["known_positive_ids"] = known
            if self.setting["shared"]:
                options["target_ids"] = known
        if "suggested" in batch:
            options["target_ids"] = batch["suggested"]
            options["target_weights"] = batch["shares"]
            options["target_embeddings"] = self.item_vectors(batch["suggested"])
        embedded = {"users": batch["users"], "items": items}
        if self.setting["distinct"]:
            embedded["users"], options["query_rows"] = tf.unique(batch["users"])
            embedded["items"], options["candidate_rows"] = tf.unique(items)
        users = self.user_vectors(embedded["users"])
        candidates = self.item_vectors(embedded["items"])
        if self.setting["top_k"]:
            options["sample_weight"] = losses.top_k_weights(
                users, candidates, tf.gather(self.kth_scores, batch["users"])
            )
        return self.task(
            users,
            candidates,
            candidate_ids=items,
            compute_metrics=False,
            training=training,
            **options,
        )

    def user_vectors(self, ids):
        # Through a dense gradient: Adam moves every row anyway.
        units = tf.math.l2_normalize(tf.gather(self.users * 1.0, ids), axis=-1)
        if self.setting["bias"]:
            units = tf.concat([units, tf.ones_like(units[..., :1])], axis=-1)
        return units

    def item_vectors(self, ids):
        units = tf.math.l2_normalize(tf.gather(self.items * 1.0, ids), axis=-1)
        if self.setting["bias"]:
            units = tf.concat([units, tf.gather(self.biases, ids)], axis=-1)
        return units

    def factors(self):
        return Factors(
            self.user_vectors(tf.range(self.users.shape[0])).numpy(),
            self.item_vectors(tf.range(self.items.shape[0])).numpy(),
        )


class KthScores(keras.callbacks.Callback):
    """Tells a model its users' K-th best scores after each epoch but the first."""

    def __init__(self, k, steps):
        super().__init__()
        self.k, self.steps, self.done = k, steps, 0

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        if self.done % self.steps or self.done == self.steps:
            return
        found = self.model.factors()
        kth = [
            np.partition(users @ found.items.T, -self.k, axis=1)[:, -self.k]
            for users in np.array_split(found.users, -(-len(found.users) // 512))
        ]
        self.model.kth_scores.assign(np.concatenate(kth))


def known_items(train):
    """The items of each user, `tf.RaggedTensor` int32."""
    matrix = train.matrix()
    return tf.RaggedTensor.from_row_splits(matrix.indices, matrix.indptr)


def correction(train, setting, uniform):
    """The layer of log q, or None."""
    if setting["log_q"] is None:
        return None
    if setting["log_q"] == "exact":
        layer = layers.StaticFrequency(train.item_counts())
    else:
        layer = layers.StreamingFrequency(train.num_items, dense=True)
    return layers.MixedLogQ([layer, uniform.log_q]) if uniform else layer


def fit(train, setting, seed):
    setting = {**PLAIN, **setting}
    keras.utils.set_random_seed(seed)
    uniform = None
    if setting["uniform"]:
        uniform = samplers.Uniform(np.arange(train.num_items, dtype=np.int32))
    steps = in_batch.num_steps(train, setting)
    model = TwoTowers(train, setting, uniform, steps)
    decay = keras.optimizers.schedules.CosineDecay(setting["rate"], steps)
    # Only that of Keras 2 is fused.
    model.compile(keras.optimizers.legacy.Adam(decay))
    ids = tf.TensorSpec([None], tf.int32)
    data = tf.data.Dataset.from_generator(
        lambda: in_batch.batches(train, setting, seed), output_signature=(ids, ids)
    ).map(lambda users, items: {"users": users, "items": items})
    if setting["taught"]:
        told = teachers.suggestions(train, setting)
        tables = tf.constant(told["suggested"]), tf.constant(told["shares"])
        data = data.map(
            lambda batch: {
                **batch,
                "suggested": tf.gather(tables[0], batch["users"]),
                "shares": tf.gather(tables[1], batch["users"]),
            }
        )
    if uniform:
        data = uniform.attach(data, setting["uniform"], name="uniform", seed=seed)
    called = []
    if setting["top_k"]:
        called.append(KthScores(setting["top_k"], steps // setting["epochs"]))
    model.fit(data.prefetch(2), verbose=2, callbacks=called)
    return model.factors()
