"""Approximate search by ScaNN.

Guo et al., "Accelerating Large-Scale Inference with Anisotropic Vector
Quantization", ICML 2020.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._checks import check_choice
from tfrs_negatives._scann_ops import scann_ops
from tfrs_negatives.index.checked_embeddings import checked_queries
from tfrs_negatives.index.popularity_dial import PopularityDial
from tfrs_negatives.index.recall_sample import (
    RecallSample,
    Search,
    choose_breadth,
    sample_rows,
)
from tfrs_negatives.index.scann_searcher import ScannSearcher, ScannSettings
from tfrs_negatives.index.searcher import Searcher
from tfrs_negatives.index.top_k import TopK
from tfrs_negatives.types import Config, TensorLike, Tower

if TYPE_CHECKING:
    from typing_extensions import Self

# Enough for a standard error of about .005 at recall .95.
_SAMPLE_SIZE = 1_000


class ScaNN(TopK):
    """Finds most of the k candidates of highest dot product, fast.

    Candidates are split into leaves by k-means; a query scores compressed candidates
    of the leaves nearest to it, and then the best of those exactly, so that returned
    scores are exact dot products (of rounded candidates, with `storage="int8"`). The
    interface is that of `tfrs.layers.factorized_top_k.ScaNN`.

    Settings left at None follow from the number of candidates N at each `index`:

    * `num_leaves`: sqrt(N), rounded. Below 1,000 candidates there are no leaves, and
      every candidate is scored exactly.
    * `num_leaves_to_search`: the share of leaves that holds 10,000 + N / 10
      candidates (all leaves up to 11,000 candidates, 11% of them at a million).
    * `num_reordering_candidates`: the larger of 200 and 5 k.

    A query for a large k looks at more than that: enough leaves to hold k
    candidates (5 k with the default number of leaves) even if they were the smallest
    ones, and at least k candidates are scored exactly. So any k up to N is
    answered in full.

    With `recall_target`, `num_leaves_to_search` and `num_reordering_candidates` are
    the smallest that reach this recall@k, for the constructor's `k`, on a sample of
    1,000 queries, so surely that the lower end of the one-sided 95% interval of the
    mean does: first as few leaves as do with 200 or 5 k candidates scored exactly
    (more if all leaves are not enough), then as few of those. Exact search over the
    sample costs about one second per 300,000 candidates and core. Pass queries to
    `index`: otherwise candidates stand in for them, and recall on queries
    that are spread differently may be lower.

    Args:
      query_model: Keras model (or callable) from raw query features to embeddings
        `[B, d]`. None: the layer is called with query embeddings.
      k: How many candidates to return by default; all of them where they are fewer.
      distance_measure: "dot_product", the only one.
      num_leaves: Number of leaves. With fewer than 16 or than `num_leaves`
        candidates there are no leaves, and every candidate is scored exactly.
      num_leaves_to_search: Leaves that a query looks into.
      training_iterations: K-means iterations for the leaves.
      dimensions_per_block: Dimensions that share a 4-bit code; more of them make the
        index smaller and faster, and less accurate.
      num_reordering_candidates: Candidates that are scored exactly.
      parallelize_batch_searches: Whether the queries of a batch are spread over the
        cores.
      storage: "float32", or "int8": the candidates scored in the end are kept rounded
        to 8 bits per number, in a quarter of the memory, and scores are approximate.
        An index without leaves keeps float32. (ScaNN's bfloat16 is not offered: its
        TensorFlow operations cannot save it.)
      recall_target: Recall to reach, above 0 and at most 1. None: the rule above.
      name: Name of the layer.

    Raises:
      ImportError: if scann is not installed, or does not fit this TensorFlow.
      ValueError: for settings out of range, and in `index` for a `recall_target` that
        `storage="int8"` cannot reach; the index then stays what it was.

    Reference:
      * Guo et al., "Accelerating large-scale inference with anisotropic vector
        quantization", ICML 2020.

    Example:
      >>> items = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
      >>> index = tn.index.ScaNN(k=3).index(items)
      >>> scores, ids = index(items[:1])
      >>> ids.shape
      TensorShape([1, 3])
    """

    def __init__(
        self,
        query_model: Tower | None = None,
        k: int = 10,
        distance_measure: str = "dot_product",
        num_leaves: int | None = None,
        num_leaves_to_search: int | None = None,
        training_iterations: int = 12,
        dimensions_per_block: int = 2,
        num_reordering_candidates: int | None = None,
        parallelize_batch_searches: bool = True,
        name: str | None = None,
        *,
        storage: str = "float32",
        recall_target: float | None = None,
    ) -> None:
        if distance_measure != "dot_product":
            raise ValueError(
                '`distance_measure` must be "dot_product", received '
                f"{distance_measure!r}. Two-tower models score by dot product; "
                "normalise the embeddings for cosine similarity."
            )
        counts: dict[str, Any] = {
            "num_leaves": num_leaves,
            "num_leaves_to_search": num_leaves_to_search,
            "training_iterations": training_iterations,
            "dimensions_per_block": dimensions_per_block,
            "num_reordering_candidates": num_reordering_candidates,
        }
        for setting, value in counts.items():
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(
                    f"`{setting}` must be a positive int or None, received {value!r}."
                )
        check_choice("storage", storage, ("float32", "int8"))
        if recall_target is not None:
            if isinstance(recall_target, bool) or not 0 < recall_target <= 1:
                raise ValueError(
                    "`recall_target` must be above 0 and at most 1, or None, received "
                    f"{recall_target!r}."
                )
            for setting in ("num_leaves_to_search", "num_reordering_candidates"):
                if counts[setting] is not None:
                    raise ValueError(
                        f"`recall_target` chooses `{setting}`, which is "
                        f"{counts[setting]}. Leave one of them None."
                    )
        scann_ops()
        super().__init__(query_model=query_model, k=k, name=name)
        self._counts = counts
        self._parallel = bool(parallelize_batch_searches)
        self._storage, self._recall_target = storage, recall_target
        self._sample_queries = None

    def _options(self) -> Config:
        return {
            **super()._options(),
            "distance_measure": "dot_product",
            **self._counts,
            "parallelize_batch_searches": self._parallel,
            "storage": self._storage,
            "recall_target": self._recall_target,
        }

    def index(
        self,
        candidates: TensorLike,
        identifiers: TensorLike | None = None,
        *,
        sample_queries: TensorLike | None = None,
    ) -> Self:
        """Builds the index, or replaces all of it by new candidates.

        Args:
          candidates: As in `BruteForce`.
          identifiers: As in `BruteForce`.
          sample_queries: `[Q, d]` query embeddings for `recall_target`, of which up to
            1,000 are used. None: candidates.

        Returns:
          The index itself.

        Raises:
          ValueError: as `BruteForce`; for sample queries that are not finite or of
            another width than the candidates, or without `recall_target`.
        """
        if sample_queries is not None and self._recall_target is None:
            raise ValueError(
                "`sample_queries` are for `recall_target` of the constructor, which "
                "is None. Give a target, or leave them out."
            )
        before, self._sample_queries = self._sample_queries, sample_queries
        try:
            super().index(candidates, identifiers)
        except Exception:
            self._sample_queries = before
            raise
        if sample_queries is not None:
            # Kept, since an export with popularity is tuned again.
            queries = tf.convert_to_tensor(sample_queries)
            self._sample_queries = sample_rows(queries, _SAMPLE_SIZE)
        return self

    def _settings(self, num_rows: int) -> ScannSettings:
        """The settings for a corpus of `num_rows` candidates."""
        counts = self._counts
        leaves, to_search = counts["num_leaves"], counts["num_leaves_to_search"]
        if leaves is None and num_rows >= 1_000:
            leaves = round(math.sqrt(num_rows))
        # 16 is the number of codes that the compression learns.
        if leaves is None or num_rows < max(leaves, 16):
            leaves = 0
        if to_search is None:
            share = min(1.0, 10_000 / num_rows + 0.1)
            to_search = math.ceil(leaves * share)
        reordering = counts["num_reordering_candidates"]
        return ScannSettings(
            num_leaves=leaves,
            num_leaves_to_search=min(to_search, leaves),
            leaf_oversampling=5 if counts["num_leaves_to_search"] is None else 1,
            num_reordering_candidates=reordering or 200,
            reordering_oversampling=5 if reordering is None else 1,
            training_iterations=counts["training_iterations"],
            dimensions_per_block=counts["dimensions_per_block"],
            parallel=self._parallel,
            storage=self._storage if leaves else "float32",
        )

    def _tune(
        self, search: Search, candidates: tf.Tensor, settings: ScannSettings
    ) -> ScannSettings:
        """Settings that reach the recall target, if there is one."""
        if self._recall_target is None:
            return settings
        queries = candidates
        if self._sample_queries is not None:
            queries = checked_queries(self._sample_queries, candidates.shape[1])
        queries = sample_rows(queries, _SAMPLE_SIZE)
        num_rows = len(candidates)
        sample = RecallSample(queries, candidates, min(self._k, num_rows))
        leaves, reordering, recall = choose_breadth(
            search, sample, self._recall_target, settings.num_leaves, num_rows
        )
        return dataclasses.replace(
            settings,
            num_leaves_to_search=leaves,
            num_reordering_candidates=reordering,
            # In proportion for a larger k.
            reordering_oversampling=math.ceil(reordering / sample.k),
            sample_recall=recall,
        )

    def _build_searcher(
        self, candidates: tf.Tensor, identifiers: tf.Tensor
    ) -> ScannSearcher:
        return ScannSearcher(candidates, identifiers, self._settings, self._tune)

    def searcher_with(self, dial: PopularityDial) -> Searcher:
        """As in the base; a `recall_target` is reached over the discounts 0, .5 and 1.

        Each is that of a third of the sample queries.

        Raises:
          ValueError: as the base, and for a `recall_target` without sample queries.
        """
        queries = self._sample_queries
        if self._recall_target is None:
            return super().searcher_with(dial)
        if queries is None:
            raise ValueError(
                "`recall_target` with `popularity` needs query embeddings: candidates "
                "in their place do not tell what a discount weighs beside a score. "
                "Pass `sample_queries` to `index`."
            )
        discounts = np.resize(np.float32([0.0, 0.5, 1.0]), len(queries))
        self._sample_queries = dial.queries(queries, tf.constant(discounts))
        try:
            return super().searcher_with(dial)
        finally:
            self._sample_queries = queries

    def is_exact(self) -> bool:
        """False: some of the best k candidates may be missed."""
        return False
