"""What a corpus knows of ids, and which ids a metric is to find its positives by."""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf

from tfrs_negatives.index.top_k import TopK
from tfrs_negatives.types import TensorLike


class KnownIds(NamedTuple):
    """What can be known of the ids of candidates before they are looked into.

    Attributes:
      are_there: Whether candidates can be found by ids; None: not known.
      dtype: The dtype of the ids, or None.
      may_be_row_numbers: Whether they count the rows, as an index does whose
        candidates were given no ids.
      are_needed: Whether scores alone say too little.
    """

    are_there: bool | None = None
    dtype: tf.DType | None = None
    may_be_row_numbers: bool = False
    are_needed: bool = False


def ids_of_dataset(dataset: tf.data.Dataset) -> KnownIds:
    """`KnownIds` of a dataset of embeddings, or of pairs (ids, embeddings)."""
    spec = dataset.element_spec
    if isinstance(spec, tuple) and len(spec) == 2:
        return KnownIds(True, getattr(spec[0], "dtype", None))
    return KnownIds(False)


def ids_of_layer(layer: object) -> KnownIds:
    """`KnownIds` of a layer that retrieves: ours, TFRS's, or another."""
    if isinstance(layer, TopK):
        if not layer.has_candidates:
            return KnownIds()
        held_ids = layer.searcher.identifiers
        needed = not layer.is_exact()
        return KnownIds(True, held_ids.dtype, held_ids.are_row_numbers, needed)
    # TFRS's have a dataset (`Streaming`), or ids in a variable. Without ids they answer
    # with row numbers: its `BruteForce` makes a variable of them, its `ScaNN` has None.
    row_numbers = KnownIds(True, tf.int32, may_be_row_numbers=True)
    held = getattr(layer, "_candidates", None)
    if isinstance(held, tf.data.Dataset):
        known = ids_of_dataset(held)
        return known if known.are_there else row_numbers
    ids = getattr(layer, "_identifiers", False)
    if ids is None:
        return row_numbers
    if not isinstance(ids, tf.Variable):
        return KnownIds()
    return KnownIds(True, ids.dtype, may_be_row_numbers=_counts_rows(ids))


def eval_ids(
    metric: Any,
    candidate_ids: TensorLike | None,
    given: TensorLike | None = None,
) -> TensorLike | None:
    """What a task hands to a corpus metric as `true_candidate_ids`.

    That a task has ids, for its masks, does not say that the corpus has any: those of
    a corpus without would be compared with its row numbers.

    Args:
      metric: A `metrics.CorpusRecall`, a `tfrs.metrics.FactorizedTopK`, or another
        with their interface.
      candidate_ids: `[B]` ids of the positives, or None.
      given: `[B]` ids for the metric alone; None: `candidate_ids`, if the metric's
        candidates have ids.

    Returns:
      `[B]` ids, or None where scores are to be compared.

    Raises:
      ValueError: Ids that can never equal those of the candidates; `given` ones where
        the candidates have none; none where ids are needed.
    """
    by_default = given is None
    ids = candidate_ids if by_default else given
    if ids is None:
        return None
    is_ours = hasattr(metric, "known_ids")
    if is_ours:
        known = metric.known_ids()
    else:
        known = ids_of_layer(getattr(metric, "_candidates", None))
    lacks_ids = known.are_there is False or (by_default and known.may_be_row_numbers)
    if lacks_ids and by_default and not known.are_needed:
        return None
    argument = "candidate_ids" if by_default else "eval_candidate_ids"
    if lacks_ids:
        raise ValueError(
            f"`{argument}` cannot be found by `{metric.name}`, whose candidates were "
            "given no ids. Pass it (ids, embeddings), or an index with `identifiers`"
            + (
                "."
                if known.are_needed
                else "; or make the task with `eval_by_scores=True`."
            )
        )
    if known.dtype is None:
        return ids
    ids = tf.convert_to_tensor(ids)
    if (ids.dtype == tf.string) != (known.dtype == tf.string):
        raise ValueError(
            f"`{argument}` ({ids.dtype.name}) can never equal the ids of "
            f"`{metric.name}`'s candidates ({known.dtype.name}). Pass such ids as "
            "`eval_candidate_ids`, or make the task with `eval_by_scores=True`."
        )
    if is_ours or ids.dtype == known.dtype:
        return ids
    # TFRS compares ids of one dtype only.
    if ids.dtype.is_integer and known.dtype == tf.int64:
        return tf.cast(ids, tf.int64)
    raise ValueError(
        f"`{argument}` ({ids.dtype.name}) must have the dtype of the ids of "
        f"`{metric.name}`'s candidates ({known.dtype.name}). Cast one of them."
    )


def _counts_rows(ids: tf.Variable) -> bool:
    """Whether a variable of ids is 0, 1, 2..., as TFRS numbers candidates without."""
    if ids.dtype != tf.int32:
        return False
    with tf.init_scope():
        values = tf.convert_to_tensor(ids)
        return bool(tf.reduce_all(tf.equal(values, tf.range(tf.size(values)))))
