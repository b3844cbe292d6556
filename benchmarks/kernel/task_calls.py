"""Calls of `tasks.Retrieval` that commits, and options, are compared by.

Each builder takes a `Batch` and returns embeddings, to which gradients are taken, and
a function from them to the loss. All use nothing but public names.
"""

import numpy as np
import tensorflow as tf

from benchmarks.kernel.batches import Batch

TEMPERATURE = 0.1
ROWS_A_REQUEST = 20  # On average, as in Online Retail.
TARGETS, MARGIN, STRATA = 10, 0.65, 8


def plain(batch):
    """No masks, no correction."""
    from tfrs_negatives.tasks import Retrieval

    task = Retrieval(temperature=TEMPERATURE)
    return (batch.queries, batch.candidates), {}, task


def corrected(batch):
    """The user's other items and accidental hits dropped, log q from the stream."""
    arguments = {"candidate_ids": batch.ids, "query_keys": batch.users}
    return (batch.queries, batch.candidates), arguments, _corrected_task()


def requests(batch):
    """The same for rows in the order of requests, each embedding given once."""
    rng = np.random.default_rng(1)
    number = max(batch.rows // ROWS_A_REQUEST, 1)
    users, query_rows = np.unique(
        np.sort(rng.integers(number, size=batch.rows)), return_inverse=True
    )
    _, first, candidate_rows = np.unique(
        batch.ids, return_index=True, return_inverse=True
    )
    arguments = {
        "candidate_ids": batch.ids,
        "query_keys": users[query_rows],
        "query_rows": query_rows,
        "candidate_rows": candidate_rows,
    }
    embeddings = batch.queries[: len(users)], batch.candidates[first]
    return embeddings, arguments, _corrected_task()


def outside(batch):
    """`corrected`, with the positive outside of the sum."""
    return _with(batch, positive="outside")


def weighted(batch):
    """The same, with the weight that BSL takes."""
    return _with(batch, positive="outside", negative_weight=1.22)


def targets(batch):
    """`corrected`, with ten further targets a row, of the batch's items.

    Each item alike: what drops the other columns of popular ones is
    `remove_accidental_hits`, and costs what it drops.
    """
    rng = np.random.default_rng(2)
    chosen = rng.choice(np.unique(batch.ids), size=[batch.rows, TARGETS])
    return _with(batch, {"target_ids": chosen}, absent_targets="drop")


def filtered(batch):
    """`corrected`, with a filter that hardly drops anything, as in a trained model.

    These scores are of random vectors: their differences deviate by .18.
    """
    from tfrs_negatives.losses import FalseNegativeFilter

    return _with(batch, false_negative_filter=FalseNegativeFilter(margin=MARGIN))


def strata(batch):
    """`corrected`, with items of eight strata."""
    of_items = batch.ids % STRATA
    arguments = {"query_strata": of_items[: batch.rows], "candidate_strata": of_items}
    return _with(batch, arguments)


def _with(batch, arguments=None, **options):
    embeddings, corrections, _ = corrected(batch)
    return embeddings, {**corrections, **(arguments or {})}, _corrected_task(**options)


def _corrected_task(**options):
    from tfrs_negatives.layers import StreamingFrequency
    from tfrs_negatives.tasks import Retrieval

    return Retrieval(
        temperature=TEMPERATURE,
        remove_accidental_hits=True,
        sampling_correction=StreamingFrequency(),
        **options,
    )


CALLS = {
    "plain": plain,
    "corrected": corrected,
    "requests": requests,
    "outside": outside,
    "weighted": weighted,
    "targets": targets,
    "filtered": filtered,
    "strata": strata,
}


def step(call, rows, extra, width, eager=False):
    """A function that takes value and gradients once and returns the value.

    Args:
      call: One of `CALLS`.
      rows, extra, width: Of the batch.
      eager: Whether Python runs the task at each call. Otherwise it is traced, once,
        on a small batch: sizes are unknown while tracing, as with a partial last batch.
    """
    embeddings, arguments, task = _tensors(CALLS[call](Batch(rows, extra, width)))

    def run(embeddings, arguments):
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            value = task(*embeddings, **arguments, training=True)
        return value, tape.gradient(value, embeddings)

    if not eager:
        signature = tf.nest.map_structure(
            lambda x: tf.TensorSpec([None] * x.shape.rank, x.dtype),
            (embeddings, arguments),
        )
        run = tf.function(run, input_signature=signature)
        run(*_tensors(CALLS[call](Batch(64, extra and 64, width)))[:2])
    return lambda: float(run(embeddings, arguments)[0].numpy())


def _tensors(call):
    embeddings, arguments, task = call
    embeddings, arguments = tf.nest.map_structure(
        tf.constant, (list(embeddings), arguments)
    )
    return embeddings, arguments, task
