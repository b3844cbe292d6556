"""How often the items of a corpus occur, as samplers are told it."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives.layers.id_counts import checked_counts, have_ids
from tfrs_negatives.samplers.item_corpus import ItemCorpus
from tfrs_negatives.types import CountsLike


def counts_in_order(counts: CountsLike, corpus: ItemCorpus) -> np.ndarray:
    """Counts [N] in the corpus's order, float64.

    Raises:
      ValueError: Not one an item, of ids that the corpus lacks; as `checked_counts`.
    """
    if not have_ids(counts):
        if np.shape(counts) != (corpus.num_items,):
            raise ValueError(
                "`counts` must hold one count for each item of the corpus, expected "
                f"shape ({corpus.num_items},), received {np.shape(counts)}."
            )
        return checked_counts(counts)[2]
    ids, _, values = checked_counts(counts)
    places = corpus.lookup("ids of counts", tf.constant(ids)).numpy()
    unknown = ids[places == corpus.num_items].tolist()
    if unknown:
        raise ValueError(
            f"`counts` must be of items of the corpus, received {len(unknown)} ids "
            f"that it lacks, {unknown[0]!r} for one. Leave them out; or pass counts in "
            "the corpus's order, as an array."
        )
    in_order = np.zeros(corpus.num_items)
    in_order[places] = values
    return in_order


def check_power(power: float) -> None:
    """Raises `ValueError` unless a power of counts is from 0 to 1."""
    _checks.check_number("power", power)
    if not 0 <= power <= 1:
        raise ValueError(
            f"`power` must be from 0 (items alike) to 1 (as often as they occur), "
            f"received {power}."
        )


def powers_of(counts: np.ndarray, power: float) -> np.ndarray:
    """count**power, and 0 for a count of 0 whatever the power."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(counts > 0, counts**power, 0.0)
