"""The highest scores that mined negatives may have."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from tfrs_negatives.index.mining.mining_queries import finite
from tfrs_negatives.index.mining.mining_sources import MiningSource
from tfrs_negatives.types import TensorLike

#: From rows `[b]` of the queries and ids `[b, k]` to scores `[b, k]`.
ScoreFunction: TypeAlias = Callable[[np.ndarray, np.ndarray], TensorLike]

LIMITS = (
    "max_score",
    "absolute_margin",
    "relative_margin",
    "positive_scores",
    "positive_embeddings",
    "score_function",
)


def check_limits(
    max_score: Any,
    absolute_margin: Any,
    relative_margin: Any,
    score_function: object,
) -> None:
    """Raises `ValueError` for options that no index could make right."""
    margins = {"absolute_margin": absolute_margin, "relative_margin": relative_margin}
    for name, margin in margins.items():
        if margin is not None and not (_is_number(margin) and 0 <= margin < np.inf):
            raise ValueError(
                f"`{name}` must be a number of at least 0, received {margin!r}."
            )
    if max_score is not None and not _is_number(max_score):
        raise ValueError(f"`max_score` must be a number, received {max_score!r}.")
    if score_function is not None and not callable(score_function):
        raise ValueError(
            "`score_function` must be a function from (rows, ids) to scores, received "
            f"{score_function!r}."
        )


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not math.isnan(value)


class ScoreLimits:
    """The highest score that a negative of each row may have."""

    def __init__(
        self,
        source: MiningSource,
        max_score: float | None,
        absolute_margin: float | None,
        relative_margin: float | None,
        positive_scores: TensorLike | None,
        positive_embeddings: TensorLike | None,
        score_function: ScoreFunction | None,
    ) -> None:
        wanted = absolute_margin is not None or relative_margin is not None
        given = [positive_scores is not None, positive_embeddings is not None]
        if sum(given) != wanted:
            raise ValueError(
                "Margins refer to the score of the positive: pass one of "
                "`positive_scores` and `positive_embeddings` with "
                "`absolute_margin` or `relative_margin`, and neither without. Received "
                f"{sum(given)} of them."
            )
        if positive_embeddings is not None and (
            score_function is not None or not source.dot_products
        ):
            raise ValueError(
                "`positive_embeddings` give dot products, which other scores cannot "
                "be compared with. Pass `positive_scores` of the ranking model."
            )
        self._max_score = max_score
        self._absolute, self._relative = absolute_margin or 0.0, relative_margin or 0.0
        self._scores = _finite("positive_scores", positive_scores, 1)
        self._embeddings = _finite("positive_embeddings", positive_embeddings, 2)
        self.heights = {
            "positive_scores": _height(self._scores),
            "positive_embeddings": _height(self._embeddings),
        }

    def of(self, queries: np.ndarray, start: int) -> np.ndarray:
        """The limits `[b]` of the queries from row `start`; inf for none."""
        rows = slice(start, start + len(queries))
        limit = np.full(len(queries), np.inf)
        if self._max_score is not None:
            limit = np.minimum(limit, self._max_score)
        positive = None
        if self._scores is not None:
            positive = self._scores[rows]
        if self._embeddings is not None:
            embeddings = self._embeddings[rows]
            if embeddings.shape != queries.shape:
                raise ValueError(
                    "`positive_embeddings` must be as wide as the queries, received "
                    f"{embeddings.shape[1]} and {queries.shape[1:]}."
                )
            positive = np.einsum("bd,bd->b", embeddings, queries)
        if positive is not None:
            limit = np.minimum(limit, positive - self._absolute)
            limit = np.minimum(limit, positive - self._relative * np.abs(positive))
        return limit


def _finite(name: str, values: TensorLike | None, rank: int) -> np.ndarray | None:
    return None if values is None else finite(name, values, rank)


def _height(array: np.ndarray | None) -> int | None:
    return None if array is None else len(array)
