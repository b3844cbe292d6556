"""Negatives from the positive's own stratum: its market, category or language."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._repr import described
from tfrs_negatives.samplers.corpus_counts import (
    check_power,
    counts_in_order,
    powers_of,
)
from tfrs_negatives.samplers.draw_context import DrawContext
from tfrs_negatives.samplers.item_corpus import ItemCorpus
from tfrs_negatives.samplers.item_strata import ItemStrata
from tfrs_negatives.samplers.proposal import Proposal
from tfrs_negatives.samplers.sampler import Sampler, seeds_of
from tfrs_negatives.samplers.stratified_log_q import StratifiedLogQ
from tfrs_negatives.samplers.stratum_draws import StratumDraws, StratumIntervals
from tfrs_negatives.types import CorpusLike, CountsLike, Features, TensorLike

# Of all strata together, and of one: masses are whole numbers, exact in doubles.
_TOTAL, _OF_STRATUM = 2**62, 2**51


class Stratified(Sampler):
    """Draws from the stratum of each row's positive, uniformly or by counts.

    A user often chooses from one part of the catalogue: a market, a language, a
    category. The model can tell negatives from elsewhere by their part alone, and
    learns nothing from them about preferences inside it. (Strata of a clustering of
    embeddings, as `samplers.cluster_strata` makes them, give negatives that are near
    the positive.)

    Shared, `attach(dataset, n)` draws n items of every stratum that is among the
    positives of the element, for all rows of the stratum. The other rows must not see
    them, which the task is told by `query_strata` and `candidate_strata`:

    ```python
    stratified = samplers.Stratified(corpus, markets, "item", id_feature="item")
    dataset = stratified.attach(interactions.batch(1024), 64)
    log_q = layers.MixedLogQ([layers.StreamingFrequency(), stratified.log_q])
    task = tasks.Retrieval(sampling_correction=log_q)
    # in compute_loss:
    ids = tf.concat([features["item"], features["negatives"]["item"]], axis=0)
    strata = features["negatives_row_strata"]
    task(
        user_tower(features["user"]),
        item_tower(ids),
        candidate_ids=ids,
        query_strata=strata,
        candidate_strata=tf.concat([strata, features["negatives_strata"]], axis=0),
        training=training,
    )
    ```

    So each row is trained against its own stratum: the batch's other positives of the
    stratum, and the draws. With log q as above its expected gradient tends to that of
    the softmax over the stratum, as that of other samplers tends to that over the
    corpus.

    With `per_row=True` every row has draws of its own, `exclude` leaves out what it
    knows, and a `Mixture` with other samplers gives the mixture's log q.

    Args:
      corpus: The items' features; see `Sampler`.
      strata: The items' strata, integers or strings, each of at least two items: a
        vector [N] in the corpus's order; or, of any order, a mapping from id to
        stratum, a pair `(ids, strata)` of vectors, or a Series with the ids as its
        index. Every item has one.
      item_feature: The elements' feature [B] that holds each row's positive, an id of
        the corpus.
      counts: How often each item occurs, as `Popularity` takes it; then draws inside a
        stratum are in proportion to count**power. None: all items of a stratum alike.
      power: From 0 to 1; with `counts`.
      id_feature: Which feature of the corpus holds the ids; see `Sampler`.

    Attributes:
      num_items: N.
      num_strata: S.
      log_q: A layer for `layers.MixedLogQ`, giving log q of ids in one draw of an
        element: first one of the strata that are among its positives, all alike, then
        an item of it.

    Raises:
      ValueError: As for `Uniform`; strata missing for an item, of ids that repeat or
        that the corpus lacks, of one item alone; counts as for `Popularity`, or all 0
        in a stratum.

    Example:
      >>> markets = {"tea": "uk", "milk": "uk", "mate": "ar", "wine": "ar"}
      >>> sampler = tn.samplers.Stratified(list(markets), markets, "item")
      >>> rows = tf.data.Dataset.from_tensor_slices({"item": ["tea", "milk"]}).batch(2)
      >>> batch = next(iter(sampler.attach(rows, 4)))
      >>> set(batch["negatives"].numpy()) <= {b"tea", b"milk"}
      True
    """

    _rows_only = True

    def __init__(
        self,
        corpus: CorpusLike | ItemCorpus,
        strata: TensorLike,
        item_feature: str,
        *,
        counts: CountsLike | None = None,
        power: float = 0.75,
        id_feature: str | None = None,
    ) -> None:
        check_power(power)
        super().__init__(corpus, id_feature)
        self._strata = ItemStrata(strata, self._corpus)
        self.num_strata = self._strata.size
        self.item_feature, self.power = item_feature, power
        self._weights = np.ones(self.num_items)
        self._has_counts = counts is not None
        if counts is not None:
            self._weights = powers_of(counts_in_order(counts, self._corpus), power)
        masses = _masses(self._weights, self._strata)
        self._intervals = StratumIntervals(self._strata.of_items, masses)

    def __repr__(self) -> str:
        return described(
            self,
            num_items=self.num_items,
            num_strata=self.num_strata,
            item_feature=self.item_feature,
            power=self.power,
        )

    @property
    def log_q(self) -> StratifiedLogQ:
        return self._log_q_layer

    @functools.cached_property
    def _log_q_layer(self) -> StratifiedLogQ:
        ids = self._corpus.ids
        ids = np.arange(self.num_items) if ids is None else ids.numpy()
        return StratifiedLogQ(ids, self._strata.of_items, self._weights)

    @property
    def _needs(self) -> tuple[str, ...]:
        return (self.item_feature,)

    # Nothing here depends on tensors' values; converting would only warn.
    @tf.autograph.experimental.do_not_convert
    def attach(
        self,
        dataset: tf.data.Dataset,
        num_negatives: int,
        *,
        per_row: bool = False,
        exclude: str | None = None,
        name: str = "negatives",
        seed: int = 0,
        input_context: tf.distribute.InputContext | None = None,
    ) -> tf.data.Dataset:
        """Adds items of the positives' strata to every element.

        With `per_row`, M = `num_negatives` for each row, as `Sampler.attach` says.
        Without, n = `num_negatives` for each of the s strata that are among the
        element's positives, K = s n in all:

        * `name`: the items' features in the corpus's structure, [K, ...];
        * `name + "_log_q"`: float32 [K], the log probability of each draw in its
          stratum;
        * `name + "_strata"`: int64 [K], the numbers of their strata;
        * `name + "_row_strata"`: int64 [B], those of the rows' positives.

        Under tf.distribute use `distribute_datasets_from_function`, or `per_row`:
        `experimental_distribute_dataset` would cut strata off from their rows.

        Args and errors: as `Sampler.attach`. Iterators stop with an
        `InvalidArgumentError` at a positive that the corpus lacks.
        """
        if per_row:
            return super().attach(
                dataset,
                num_negatives,
                per_row=True,
                exclude=exclude,
                name=name,
                seed=seed,
                input_context=input_context,
            )
        _checks.check_at_least("num_negatives", num_negatives, 1)
        seeds = seeds_of(name, seed, input_context)
        names = [name, *(f"{name}_{n}" for n in ("log_q", "strata", "row_strata"))]
        self._check_element(dataset.element_spec, names, per_row, exclude)

        def add(element: Features, seed: tf.Tensor) -> Features:
            added = self._draw_shared(element, num_negatives, seed)
            return {**element, **dict(zip(names, added, strict=True))}

        return tf.data.Dataset.zip(dataset, seeds).map(
            add, num_parallel_calls=tf.data.AUTOTUNE
        )

    def _draw_shared(
        self, element: Features, num: int, seed: tf.Tensor
    ) -> tuple[Any, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Features, log q and strata of K draws, and strata of B rows."""
        seeds = tf.random.split(seed, 2)
        of_rows = self._strata_of_rows(element)
        present = tf.sort(tf.unique(of_rows).y)
        context = DrawContext(seeds[0], tf.size(present))
        draws = StratumDraws(self._intervals, present, context)
        positions, log_q, _ = draws.draw(num, seeds[1])
        positions = tf.reshape(positions, [-1])
        features = tf.nest.map_structure(
            lambda feature: tf.gather(feature, positions), self._corpus.features
        )
        strata = tf.repeat(present, num)
        return features, tf.reshape(log_q, [-1]), strata, of_rows

    def _strata_of_rows(self, element: Features) -> tf.Tensor:
        """[B] int64, of the rows' positives."""
        ids = element[self.item_feature]
        _checks.check_rank(self.item_feature, ids, (1,), "Pass one item for each row.")
        positions = self._corpus.lookup(self.item_feature, ids)
        is_unknown = positions >= self.num_items
        message = (
            f"`{self.item_feature}` must hold items of the corpus, whose strata are "
            "known. Add these items to it, or leave their rows out. Received:"
        )
        is_known = tf.debugging.Assert(
            ~tf.reduce_any(is_unknown), [message, tf.boolean_mask(ids, is_unknown)]
        )
        positions = _checks.guard(positions, is_known)
        return tf.gather(self._intervals.strata, positions)

    def _check_element(
        self, spec: Any, names: Sequence[str], per_row: bool, exclude: str | None
    ) -> None:
        # Its shared draws are of rows too, but belong to many.
        super()._check_element(spec, names, True, exclude)
        if exclude is not None and not per_row:
            raise ValueError(
                "`exclude` names known positives of single rows: expected "
                "`per_row=True`, received shared negatives. Mask shared ones in the "
                "task: `known_positive_ids`."
            )

    def _proposal(self, rows: DrawContext) -> Proposal:
        assert rows.element is not None  # As `_rows_only` says.
        return StratumDraws(self._intervals, self._strata_of_rows(rows.element), rows)


def _masses(weights: np.ndarray, strata: ItemStrata) -> np.ndarray:
    """Whole numbers [N] in proportion to the weights of each stratum.

    Raises:
      ValueError: A stratum without weight.
    """
    totals = np.bincount(strata.of_items, weights)
    empty = np.flatnonzero(totals == 0)
    if len(empty):
        raise ValueError(
            f"`counts` must be above 0 for an item of each stratum: {len(empty)} "
            f"strata have none, {strata.name_of(empty[0])!r} for one. Merge these, or "
            "leave `counts` out."
        )
    if (weights == 1).all():
        return np.ones(len(weights), np.int64)
    scale = min(_TOTAL // strata.size, _OF_STRATUM)
    masses = np.rint(weights * (scale / totals[strata.of_items])).astype(np.int64)
    masses[weights > 0] = np.maximum(masses[weights > 0], 1)
    return masses
