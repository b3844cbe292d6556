"""Approximate search by ScaNN.

Guo et al., "Accelerating Large-Scale Inference with Anisotropic Vector
Quantization", ICML 2020.
"""

import math

from tfrs_negatives.index.scann_searcher import ScannSearcher, ScannSettings, scann_ops
from tfrs_negatives.index.top_k import TopK


class ScaNN(TopK):
    """Finds most of the k candidates of highest dot product, fast.

    Candidates are split into leaves by k-means; a query scores compressed candidates
    of the leaves nearest to it, and then the best of those exactly, so that returned
    scores are exact dot products. The interface is that of
    `tfrs.layers.factorized_top_k.ScaNN`.

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

    Args:
      query_model: Keras model (or callable) from raw query features to embeddings
        `[B, d]`. None: the layer is called with query embeddings.
      k: How many candidates to return by default.
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
      name: Name of the layer.

    Raises:
      ImportError: if scann is not installed, or does not fit this TensorFlow.
      ValueError: for settings out of range.
    """

    def __init__(
        self,
        query_model=None,
        k=10,
        distance_measure="dot_product",
        num_leaves=None,
        num_leaves_to_search=None,
        training_iterations=12,
        dimensions_per_block=2,
        num_reordering_candidates=None,
        parallelize_batch_searches=True,
        name=None,
    ):
        if distance_measure != "dot_product":
            raise ValueError(
                '`distance_measure` must be "dot_product", received '
                f"{distance_measure!r}. Two-tower models score by dot product; "
                "normalise the embeddings for cosine similarity."
            )
        counts = {
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
        scann_ops()
        super().__init__(query_model=query_model, k=k, name=name)
        self._counts = counts
        self._parallel = bool(parallelize_batch_searches)

    def get_config(self):
        return {
            **super().get_config(),
            "distance_measure": "dot_product",
            **self._counts,
            "parallelize_batch_searches": self._parallel,
        }

    def _settings(self, num_rows):
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
        )

    def _build_searcher(self, candidates, identifiers):
        return ScannSearcher(candidates, identifiers, self._settings)

    def is_exact(self):
        """False: some of the best k candidates may be missed."""
        return False
