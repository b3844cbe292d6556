"""Two towers smoothed over who had what, trained on whole users with this package.

Training only: embeddings of users and items are means over the layers of LightGCN (He
et al., SIGIR 2020), that is, a user's holds what the items of its history hold. They
start from the singular vectors of the matrix that smooths them. In the end they are
tables again: what serves is a vector a user and a vector an item.

A score is the cosine over a temperature, plus a share of the log of the item's count:
cosines of 63 dimensions need not spend themselves on popularity then. The share is the
last dimension, a constant 1 for users.

A batch is some users with all their items, and every item once more. The loss is that
of `tasks.Retrieval` with log-Q of how often each is there, which makes it the softmax
over all items, without a user's own items as negatives, at the cost of distinct users
times items. To it comes a cross entropy over all items whose targets are what two
teachers (`teachers.py`) rank highest among the items that the user lacks: distillation
(Tang and Wang, KDD 2018), weighted by the teachers' scores.

Settings: `width` of a vector at serving time; `temperature`; `layers`; `share` of the
log count; `users` a batch; `taught`, the weight of the cross entropy, and what
`teachers.py` takes; `rate` (falls to zero along a cosine) and `epochs` of Adam. To see
what each part brings, `layers`, `share` and `taught` may be 0, and `masks`, `log_q`,
`every_item` and `singular_start` may be False.
"""

import numpy as np
import scipy.sparse.linalg
import tensorflow as tf

from benchmarks.quality.models import teachers
from benchmarks.quality.rankers import Factors
from tfrs_negatives import models, tasks

keras = tf.keras

PARTS = dict.fromkeys(["masks", "log_q", "every_item", "singular_start"], True)


class SmoothedTowers(models.Model):
    def __init__(self, setting, matrix, counts, seed):
        super().__init__()
        self.setting = setting
        transposed = matrix.T.tocsr()
        self.to_users = product(matrix, transposed)
        self.to_items = product(transposed, matrix)
        self.users, self.items = (
            self.add_weight(
                name=name, shape=start.shape, initializer=lambda *_, s=start, **__: s
            )
            for name, start in zip(
                ("users", "items"), starts(matrix, setting, seed), strict=True
            )
        )
        self.counts = tf.constant(np.maximum(counts, 1), tf.float32)
        self.task = tasks.Retrieval(
            positive="refined" if setting["log_q"] else "all",
            reduction="sum_over_batch_size",
            mask_shared_positives=setting["masks"],
        )

    def towers(self):
        """Unit vectors [num_users, width - 1] and [num_items, width - 1]."""
        users, items = [self.users * 1.0], [self.items * 1.0]
        for _ in range(self.setting["layers"]):
            new_users = self.to_users(items[-1])
            items.append(self.to_items(users[-1]))
            users.append(new_users)
        return [tf.math.l2_normalize(tf.add_n(e), axis=1) for e in (users, items)]

    def compute_loss(self, batch, training=False):
        users, items = self.towers()
        queries = tf.gather(users, batch["users"]) / self.setting["temperature"]
        queries = tf.concat([queries, tf.ones_like(queries[:, :1])], axis=1)
        shares = self.setting["share"] * tf.math.log(self.counts)[:, None]
        items = tf.concat([items, shares], axis=1)
        loss = self.loss_of_items(queries, items, batch, training)
        if self.setting["taught"]:
            scores = tf.matmul(queries, items, transpose_b=True)
            ours = tf.gather(scores, batch["suggested"], batch_dims=1)
            losses = tf.reduce_logsumexp(scores, axis=1)
            losses *= tf.reduce_sum(batch["shares"], axis=1)
            losses -= tf.reduce_sum(batch["shares"] * ours, axis=1)
            # Users weigh as much as their items do.
            mean = tf.reduce_mean(tf.gather(losses, batch["rows"]))
            loss += self.setting["taught"] * mean
        return loss

    def loss_of_items(self, queries, items, batch, training):
        ids, options = batch["items"], {}
        if self.setting["every_item"]:
            ids = tf.concat([ids, tf.range(tf.shape(items)[0])], axis=0)
        if self.setting["log_q"]:
            options["candidate_log_q"] = self.log_q(ids)
        if self.setting["masks"]:
            options["query_keys"] = tf.gather(batch["users"], batch["rows"])
        distinct, places = tf.unique(ids)
        return self.task(
            queries,
            tf.gather(items, distinct),
            query_rows=batch["rows"],
            candidate_rows=places,
            candidate_ids=ids,
            compute_metrics=False,
            training=training,
            **options,
        )

    def log_q(self, ids):
        """That of items drawn by their counts, or known, where every item is there."""
        times = self.counts
        if self.setting["every_item"]:
            times = tf.math.bincount(ids, dtype=tf.float32)
        return tf.gather(tf.math.log(times / tf.reduce_sum(times)), ids)

    def factors(self):
        users, items = (e.numpy() for e in self.towers())
        share = self.setting["temperature"] * self.setting["share"]
        ones = np.ones([len(users), 1], np.float32)
        shares = share * np.log(self.counts.numpy())[:, None]
        return Factors(np.hstack([users, ones]), np.hstack([items, shares]))


def symmetric(owned):
    """`[num_users, num_items]` sparse float32: D_u^-1/2 R D_i^-1/2."""
    users, items = (
        scipy.sparse.diags(np.maximum(np.asarray(owned.sum(axis)).ravel(), 1) ** -0.5)
        for axis in (1, 0)
    )
    return (users @ owned @ items).astype(np.float32).tocsr()


def starts(matrix, setting, seed):
    """First embeddings of users, then items: `width - 1` singular vectors and noise.

    Without noise, what has a single interaction would be parallel to another such.
    """
    width, rng = setting["width"] - 1, np.random.default_rng(seed)
    if not setting["singular_start"]:
        for size in matrix.shape:
            yield rng.normal(scale=0.1, size=[size, width]).astype(np.float32)
        return
    users, _, items = scipy.sparse.linalg.svds(matrix, width, rng=seed)
    for vectors in (users, items.T):
        scale = 0.1 * np.sqrt(len(vectors))
        noise = rng.normal(scale=0.01, size=vectors.shape)
        yield (scale * vectors + noise).astype(np.float32)


def product(matrix, transposed):
    """The differentiable product with a sparse matrix, several times TensorFlow's."""

    def times(matrix, dense):
        result = tf.numpy_function(lambda x: matrix @ x, [dense], tf.float32)
        return tf.ensure_shape(result, [matrix.shape[0], dense.shape[1]])

    @tf.custom_gradient
    def call(dense):
        return times(matrix, dense), lambda upstream: times(transposed, upstream)

    return call


def batches(owned, setting, seed, targets):
    """Some users each, all their items, and the teachers' targets."""
    rng = np.random.default_rng(seed)
    active = np.flatnonzero(np.diff(owned.indptr))
    for epoch in range(setting["epochs"]):
        order = rng.permutation(active)
        for start in range(0, len(order), setting["users"]):
            users = order[start : start + setting["users"]]
            entries = owned[users].tocoo()
            yield {
                "users": users.astype(np.int32),
                "rows": entries.row.astype(np.int32),
                "items": entries.col.astype(np.int32),
                **{name: values[users] for name, values in targets.items()},
            }
        print(f"epoch {epoch + 1} of {setting['epochs']}", flush=True)


def fit(train, setting, seed):
    setting = {**PARTS, **setting}
    keras.utils.set_random_seed(seed)
    owned = train.matrix()
    matrix = symmetric(owned)
    targets = teachers.suggestions(train, setting) if setting["taught"] else {}
    model = SmoothedTowers(setting, matrix, train.item_counts(), seed)
    active = np.count_nonzero(np.diff(owned.indptr))
    steps = -(-active // setting["users"]) * setting["epochs"]
    decay = keras.optimizers.schedules.CosineDecay(setting["rate"], steps)
    # Only that of Keras 2 is fused.
    model.compile(keras.optimizers.legacy.Adam(decay))
    ids = tf.TensorSpec([None], tf.int32)
    data = tf.data.Dataset.from_generator(
        lambda: batches(owned, setting, seed, targets),
        output_signature={
            "users": ids,
            "rows": ids,
            "items": ids,
            **{
                name: tf.TensorSpec([None, *values.shape[1:]], values.dtype)
                for name, values in targets.items()
            },
        },
    )
    model.fit(data.prefetch(2), verbose=2)
    return model.factors()
