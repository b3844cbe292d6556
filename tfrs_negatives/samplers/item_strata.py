"""Which stratum each item of a corpus belongs to."""

from __future__ import annotations

import collections.abc
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._id_columns import id_column, is_series, places_of_repeats
from tfrs_negatives._ids import as_int64
from tfrs_negatives.samplers.item_corpus import ItemCorpus
from tfrs_negatives.types import TensorLike


class ItemStrata:
    """The strata of N items, numbered from 0.

    Args:
      strata: As `samplers.Stratified` takes them.
      corpus: The items.

    Attributes:
      of_items: [N] int64, the number of each item's stratum.
      names: [S], the strata by their numbers, in ascending order.

    Raises:
      ValueError: Strata that are not one an item, of ids that repeat or that the corpus
        lacks, missing for an item; neither integers nor strings; of one item alone.
    """

    def __init__(self, strata: TensorLike, corpus: ItemCorpus) -> None:
        values = _in_order(strata, corpus)
        self.names, self.of_items = np.unique(values, return_inverse=True)
        self.of_items = self.of_items.astype(np.int64)
        alone = np.flatnonzero(np.bincount(self.of_items) < 2)
        if len(alone):
            raise ValueError(
                "Every stratum must have at least two items, a positive and something "
                f"to draw against it: received {len(alone)} strata of one item, "
                f"{self.name_of(alone[0])!r} for one. Merge small strata."
            )

    @property
    def size(self) -> int:
        """S, how many strata there are."""
        return len(self.names)

    def name_of(self, number: int) -> Any:
        """A stratum as it was given, for messages."""
        return self.names[number : number + 1].tolist()[0]


def _in_order(strata: TensorLike, corpus: ItemCorpus) -> np.ndarray:
    """Strata [N] in the corpus's order."""
    given, of_ids = _with_ids(strata)
    values = id_column("strata", of_ids)
    if given is None:
        if len(values) != corpus.num_items:
            raise ValueError(
                "`strata` must hold one stratum for each item of the corpus, expected "
                f"{corpus.num_items}, received {len(values)}. Pass a pair `(ids, "
                "strata)` if they are in another order."
            )
        return values
    ids = id_column("ids of strata", given)
    if len(ids) != len(values):
        raise ValueError(
            f"Expected one id for each stratum, received {len(ids)} ids and "
            f"{len(values)} strata."
        )
    return values[_places_in_corpus(ids, corpus)]


def _with_ids(strata: Any) -> tuple[Any, Any]:
    """Ids, or None where they are the corpus's in its order, and strata, unchecked."""
    if isinstance(strata, collections.abc.Mapping):
        return list(strata.keys()), list(strata.values())
    if isinstance(strata, tuple) and len(strata) == 2 and np.ndim(strata[0]) == 1:
        return strata
    return (np.asarray(strata.index) if is_series(strata) else None), strata


def _places_in_corpus(ids: np.ndarray, corpus: ItemCorpus) -> np.ndarray:
    """Where among the ids each item of the corpus is, [N]."""
    repeats = places_of_repeats(as_int64("ids of strata", ids).numpy())
    if len(repeats):
        raise ValueError(
            f"`strata` must name each id once, received {len(repeats)} repeats, "
            f"{ids[repeats[0]]!r} for one. An item belongs to one stratum."
        )
    places = corpus.lookup("ids of strata", tf.constant(ids)).numpy()
    unknown = ids[places == corpus.num_items].tolist()
    if unknown:
        raise ValueError(
            f"`strata` must be of items of the corpus, received {len(unknown)} ids "
            f"that it lacks, {unknown[0]!r} for one. Leave them out."
        )
    found = np.full(corpus.num_items, -1)
    found[places] = np.arange(len(ids))
    missing = np.flatnonzero(found < 0)
    if len(missing):
        example = missing[0] if corpus.ids is None else corpus.ids.numpy()[missing[0]]
        raise ValueError(
            f"`strata` must name one for every item of the corpus: {len(missing)} of "
            f"its {corpus.num_items} items have none, {example!r} for one. Give them "
            "one of their own, such as 'other'."
        )
    return found
