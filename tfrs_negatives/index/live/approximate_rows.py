"""Approximate search by ScaNN, without TensorFlow.

Guo et al., "Accelerating Large-Scale Inference with Anisotropic Vector Quantization",
ICML 2020.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import math
import os
import sys
from types import ModuleType
from typing import Any

import numpy as np

# ScaNN learns 16 codes, and needs as many rows.
_FEWEST_ROWS = 1_000


class ApproximateRows:
    """Finds most of the best rows, fast.

    Leaves and their number are chosen as `index.ScaNN` does by itself: sqrt(N) leaves,
    of which a query looks into those that hold 10,000 + N / 10 rows.

    With `soar_lambda` each row is in a second leaf too, one that is likely to be looked
    into where the first is not (SOAR: Sun et al., "SOAR: Improved indexing for
    approximate nearest neighbor search", NeurIPS 2023).

    Args:
      embeddings: `[N, d]` float32, which ScaNN copies.
      soar_lambda: The weight of that, or None: rows are in one leaf.

    Raises:
      ImportError: There is no scann, or another than is known here.
    """

    def __init__(
        self, embeddings: np.ndarray, soar_lambda: float | None = None
    ) -> None:
        pybind, builder = scann_modules()
        self.num_rows = len(embeddings)
        self._leaves = round(math.sqrt(self.num_rows))
        share = min(1.0, 10_000 / self.num_rows + 0.1)
        self._leaves_to_search = math.ceil(self._leaves * share)
        config = (
            builder.ScannBuilder(embeddings, 10, "dot_product")
            .tree(self._leaves, self._leaves_to_search, soar_lambda=soar_lambda)
            .score_ah(2)
            .reorder(200)
            .create_config()
        )
        self._searcher = pybind.ScannNumpy(embeddings, config, os.cpu_count() or 1)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Most of the best k rows.

        Args:
          queries: `[B, d]` float32.
          k: At most the number of rows. The larger, the more leaves are looked into.

        Returns:
          Exact scores `[B, k]` float32 and row numbers `[B, k]`, in no order; -inf, and
          any number, where fewer were found.
        """
        wide = math.ceil(5 * k * self._leaves / self.num_rows)
        leaves = min(self._leaves, max(self._leaves_to_search, wide))
        reordered = min(self.num_rows, max(200, 2 * k))
        # By itself ScaNN makes threads, which a few queries are not worth.
        parallel = len(queries) > 8
        rows, scores = self._searcher.search_batched(
            queries, k, reordered, leaves, parallel, 256
        )
        # Too few found are NaN, with row 0.
        scores = np.where(np.isnan(scores), -np.inf, scores)
        missing = [(0, 0), (0, k - scores.shape[1])]
        return (
            np.pad(scores, missing, constant_values=-np.inf),
            np.pad(rows.astype(np.int64), missing),
        )


def approximate_or_none(
    embeddings: np.ndarray, fewest: int, soar_lambda: float | None = None
) -> ApproximateRows | None:
    """A searcher for at least `fewest` rows, where there are as many and a scann."""
    if len(embeddings) < max(fewest, _FEWEST_ROWS) or not has_scann():
        return None
    return ApproximateRows(embeddings, soar_lambda)


@functools.cache
def has_scann() -> bool:
    """Whether ScaNN can search here."""
    try:
        scann_modules()
    except ImportError:
        return False
    return True


@functools.cache
def scann_modules() -> tuple[Any, Any]:
    """ScaNN's searcher for NumPy, and what writes its configuration.

    `import scann` imports TensorFlow where there is one, and fails unless it is the one
    that its operations were built for. These two files of it need none, so they are
    imported by themselves.

    Raises:
      ImportError: They are not there.
    """
    spec = importlib.util.find_spec("scann")
    if spec is None or not spec.submodule_search_locations:
        raise ImportError("scann is not installed: pip install tfrs_negatives[scann]")
    folder = os.path.join(spec.submodule_search_locations[0], "scann_ops")
    pybind = os.path.join(folder, "cc", "python", "scann_pybind.so")
    builder = os.path.join(folder, "py", "scann_builder.py")
    # Where scann has been imported, its module is: it can be loaded only once.
    loaded = sys.modules.get("scann_pybind") or _imported("scann_pybind", pybind)
    return loaded, _imported("_tfrs_negatives_scann_builder", builder)


def _imported(name: str, path: str) -> ModuleType:
    if not os.path.exists(path):
        raise ImportError(f"no {path!r}: this scann is laid out in another way")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path!r} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
