"""Rows whose positive is near the first K places weigh more (SL@K)."""

from __future__ import annotations

import math
import numbers

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.losses import inputs
from tfrs_negatives.types import ScalarLike, TensorLike


def top_k_weights(
    query_embeddings: TensorLike,
    candidate_embeddings: TensorLike,
    kth_scores: TensorLike,
    temperature: ScalarLike = 1.0,
) -> tf.Tensor:
    """Weights of rows for recall and NDCG among the first K, as `sample_weight`.

    Row i weighs

        sigmoid((s_i - beta_i) / temperature),

    where s_i is the dot product of its query and its positive, and beta_i the K-th best
    score that its query has among all items: SL@K (Yang et al., KDD 2025). A positive
    that is far below the first K places, as noise often is, counts less. No gradient
    flows through a weight.

    beta changes slowly, so it may be some epochs old. Before the first one, pass -inf:
    such a row has the weight 1.

    ```python
    kth = tf.Variable(tf.fill([num_users], -np.inf), trainable=False)
    task = tasks.Retrieval(reduction="mean_with_sample_weight", ...)
    # in compute_loss:
    weights = losses.top_k_weights(queries, items, tf.gather(kth, features["user"]))
    loss = task(queries, items, sample_weight=weights, ...)
    # after an epoch, with `index.BruteForce(k=20)` filled again:
    kth.assign(index(user_embeddings)[0][:, -1])
    ```

    Args:
      query_embeddings: [B, d].
      candidate_embeddings: [C, d], C at least B; the first B are the rows' positives.
      kth_scores: [B], in units of the dot products, before the temperature of the loss.
      temperature: Of the weights, above 0, in the same units: 1 suits cosines. Low ones
        leave nearly nothing to positives beyond the first K.

    Returns:
      [B] in [0, 1], float64 if embeddings are, else float32. With the reduction
      "mean_with_sample_weight" their scale does not matter.

    Raises:
      ValueError, tf.errors.InvalidArgumentError: Shapes that do not go together; a
        temperature that is a number and not above 0.
    """
    _checks.check_scalar("temperature", temperature)
    if isinstance(temperature, numbers.Real) and not 0 < float(temperature) < math.inf:
        raise ValueError(
            f"`temperature` must be finite and above 0, received {temperature}. "
            "Cosines go with 1."
        )
    queries, candidates = inputs.check_scored(query_embeddings, candidate_embeddings)
    _checks.check_rank("query_embeddings", queries, (2,), "Pass [B, d], one head.")
    dtype = inputs.computed_in(queries, candidates)
    num_rows = _checks.size(queries)
    hint = "Pass one score for each row, [B]."
    kth = inputs.as_float("kth_scores", kth_scores)
    _checks.check_rank("kth_scores", kth, (1,), hint)
    kth = _checks.check_size("kth_scores", kth, 0, num_rows, hint)
    positives = tf.cast(candidates[:num_rows], dtype)
    scores = tf.reduce_sum(tf.cast(queries, dtype) * positives, axis=1)
    above = (scores - tf.cast(kth, dtype)) / tf.cast(temperature, dtype)
    return tf.stop_gradient(tf.sigmoid(above))
