"""The two towers under Keras, and the tasks that train them."""

import numpy as np
import tensorflow as tf

from benchmarks.steps.problem import LEARNING_RATE, TEMPERATURE
from tfrs_negatives import layers, models, optimizers, samplers, tasks
from tfrs_negatives._keras import keras

#: Optimizers by name.
OPTIMIZERS = {
    "lazy": optimizers.LazyAdam,
    "adam": keras.optimizers.Adam,
    "adagrad": keras.optimizers.Adagrad,
}


class TwoTowers(models.Model):
    """Unit-length embeddings of users and items, and a loss of theirs.

    Args:
      problem: `Problem`.
      loss: From queries, candidates, the candidates' ids and the users to the loss.
    """

    def __init__(self, problem, loss):
        super().__init__()
        self.towers = [
            keras.Sequential(
                [
                    keras.layers.Embedding(size, problem.width),
                    keras.layers.UnitNormalization(),
                ]
            )
            for size in (problem.users, problem.items)
        ]
        self.user_tower, self.item_tower = self.towers
        self.loss_of = loss
        self.task = getattr(loss, "task", None)

    @property
    def tables(self):
        return [tower.layers[0].embeddings for tower in self.towers]

    def start_from(self, tables):
        """Puts values in the place of the tables' own first ones."""
        for tower, values in zip(self.towers, tables, strict=True):
            tower(tf.zeros([1], tf.int64))
            tower.layers[0].embeddings.assign(values)

    def compute_loss(self, features, training=False):
        items = tf.concat([features["item"], features["negatives"]], axis=0)
        users = features["user"]
        queries, candidates = self.user_tower(users), self.item_tower(items)
        return self.loss_of(queries, candidates, items, users, training)


class Ours:
    """All corrections: same-user mask, accidental hits, log Q learned or known."""

    def __init__(self, problem, known_log_q=False):
        log_q = layers.StreamingFrequency(num_ids=problem.items)
        if known_log_q:
            counts = dict(enumerate(problem.share().tolist()))
            log_q = layers.StaticFrequency(counts)
        self.task = tasks.Retrieval(
            temperature=TEMPERATURE,
            remove_accidental_hits=True,
            sampling_correction=layers.MixedLogQ([log_q, -np.log(problem.items)]),
        )

    def __call__(self, queries, candidates, items, users, training):
        return self.task(
            queries,
            candidates,
            candidate_ids=items,
            query_keys=users,
            compute_metrics=False,
            training=training,
        )


class Tfrs:
    """TFRS's task with the same corrections switched on; log Q is known."""

    def __init__(self, problem):
        import tensorflow_recommenders as tfrs

        self.task = tfrs.tasks.Retrieval(
            temperature=TEMPERATURE, remove_accidental_hits=True
        )
        self._q = tf.exp(tf.constant(problem.log_q()))

    def __call__(self, queries, candidates, items, users, training):
        rows, columns = tf.shape(queries)[0], tf.shape(candidates)[0]
        others = users[:, tf.newaxis] != users[tf.newaxis, :]
        others = tf.pad(others, [[0, 0], [0, columns - rows]], constant_values=True)
        positive = tf.range(rows)[:, tf.newaxis] == tf.range(columns)
        return self.task(
            queries,
            candidates,
            candidate_ids=items,
            candidate_sampling_probability=tf.gather(self._q, items),
            score_mask=others | positive,
            compute_metrics=False,
        )


class TfrsPlain:
    """TFRS's task as most use it: no masks, no log Q."""

    def __init__(self, problem):
        import tensorflow_recommenders as tfrs

        self.task = tfrs.tasks.Retrieval(temperature=TEMPERATURE)

    def __call__(self, queries, candidates, items, users, training):
        return self.task(queries, candidates, compute_metrics=False)


#: Losses by the name of their task.
LOSSES = {"ours": Ours, "tfrs": Tfrs, "tfrs_plain": TfrsPlain}


def compiled(problem, task, optimizer):
    """A compiled `TwoTowers`: names of `LOSSES` and of `OPTIMIZERS`."""
    model = TwoTowers(problem, LOSSES[task](problem))
    model.compile(OPTIMIZERS[optimizer](LEARNING_RATE))
    return model


def batches(problem):
    """Batches without end, with negatives.

    It is row numbers that are shuffled, and rows gathered by the batch: `tf.data` takes
    a hundred times as long to shuffle rows one by one.
    """
    columns = {name: tf.constant(ids) for name, ids in problem.columns().items()}
    numbers = tf.data.Dataset.from_generator(
        problem.batches_of_rows, output_signature=tf.TensorSpec([None], tf.int64)
    )
    rows = numbers.map(
        lambda rows: {name: tf.gather(ids, rows) for name, ids in columns.items()},
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    uniform = samplers.Uniform(np.arange(problem.items))
    return uniform.attach(rows, problem.negatives).prefetch(1)


def bare_step(model):
    """Gather, towers, loss and update of a batch, traced once: what `fit` wraps."""

    @tf.function(reduce_retracing=True)
    def step(features):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(features, training=True)
        variables = model.trainable_variables
        gradients = tape.gradient(loss, variables)
        model.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return step
