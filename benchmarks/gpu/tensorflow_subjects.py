"""The programs that are exported: a training step of each subject, in TensorFlow.

Value and gradients in the embeddings. Each takes the tensors that `cases` names, of
shapes that are known, as programs of XLA have no others.
"""

import tensorflow as tf
import tensorflow_recommenders as tfrs

from benchmarks.gpu.cases import SUBJECTS, TEMPERATURE
from benchmarks.gpu.problems import HARD_NEGATIVES
from tfrs_negatives.tasks import Retrieval


def step_of(case):
    """A function of tensors to `(loss, gradients)`, for XLA to compile."""
    if case.subject == "floor":
        return _floor
    loss = LOSSES[case.subject](case.row_block or None)
    trained = SUBJECTS[case.subject].trained

    def step(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs[:trained])
            value = loss(*inputs)
        # Dense, as a tower takes them, where embeddings are gathered too.
        gradients = tape.gradient(value, inputs[:trained])
        return value, [tf.convert_to_tensor(gradient) for gradient in gradients]

    return step


def _ours(row_block):
    task = Retrieval(
        temperature=TEMPERATURE, remove_accidental_hits=True, row_block=row_block
    )
    return lambda queries, candidates, ids, users, log_q: task(
        queries, candidates, candidate_ids=ids, query_keys=users, candidate_log_q=log_q
    )


def _ours_plain(row_block):
    return Retrieval(temperature=TEMPERATURE, row_block=row_block)


def _distinct(row_block):
    task = Retrieval(
        temperature=TEMPERATURE, remove_accidental_hits=True, row_block=row_block
    )
    return lambda queries, candidates, query_rows, candidate_rows, ids, users, log_q: (
        task(
            queries,
            candidates,
            candidate_ids=ids,
            query_keys=users,
            candidate_log_q=log_q,
            query_rows=query_rows,
            candidate_rows=candidate_rows,
        )
    )


def _mined(row_block):
    task = Retrieval(
        temperature=TEMPERATURE,
        remove_accidental_hits=True,
        num_hard_negatives=HARD_NEGATIVES,
        row_block=row_block,
    )
    return lambda queries, candidates, ids, users, log_q: task(
        queries, candidates, candidate_ids=ids, query_keys=users, candidate_log_q=log_q
    )


def _row_negatives(row_block):
    task = Retrieval(
        temperature=TEMPERATURE, remove_accidental_hits=True, row_block=row_block
    )

    def loss(
        queries,
        candidates,
        negatives,
        ids,
        users,
        log_q,
        negative_ids,
        negative_log_q,
    ):
        return task(
            queries,
            candidates,
            candidate_ids=ids,
            query_keys=users,
            candidate_log_q=log_q,
            negative_embeddings=negatives,
            negative_ids=negative_ids,
            negative_log_q=negative_log_q,
        )

    return loss


def _tfrs(row_block):
    """With the same corrections switched on; it computes in its embeddings' dtype."""
    del row_block
    task = tfrs.tasks.Retrieval(temperature=TEMPERATURE, remove_accidental_hits=True)

    def loss(queries, candidates, ids, users, log_q):
        queries, candidates = (tf.cast(x, tf.float32) for x in (queries, candidates))
        rows, columns = queries.shape[0], candidates.shape[0]
        others = users[:, tf.newaxis] != users[tf.newaxis, :]
        others = tf.pad(others, [[0, 0], [0, columns - rows]], constant_values=True)
        positive = tf.range(rows)[:, tf.newaxis] == tf.range(columns)
        return task(
            queries,
            candidates,
            candidate_ids=ids,
            candidate_sampling_probability=tf.exp(log_q),
            score_mask=others | positive,
        )

    return loss


def _floor(queries, candidates):
    """Three bare products and one softmax, sums in float32 whatever the embeddings."""
    scores = _product(queries, candidates, transpose_b=True)
    probabilities = tf.cast(tf.nn.softmax(scores), queries.dtype)
    return (
        _product(probabilities, candidates),
        _product(probabilities, queries, transpose_a=True),
    )


def _product(one, other, transpose_a=False, transpose_b=False):
    if one.dtype == tf.float32:
        return tf.matmul(one, other, transpose_a, transpose_b)
    return tf.raw_ops.BatchMatMulV3(
        x=one, y=other, Tout=tf.float32, adj_x=transpose_a, adj_y=transpose_b
    )


LOSSES = {
    "ours": _ours,
    "ours_plain": _ours_plain,
    "distinct": _distinct,
    "mined": _mined,
    "row_negatives": _row_negatives,
    "tfrs": _tfrs,
}
