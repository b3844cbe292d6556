"""A signature whose items are a live index: TensorFlow embeds, the index searches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrs_negatives._embedding_signature import EmbeddingSignature, per_row
from tfrs_negatives.index.popularity_scale import MAX_DISCOUNT, PopularityScale

if TYPE_CHECKING:
    from tfrs_negatives.index.live import LiveAnswer, LiveIndex


class LiveSignature(EmbeddingSignature):
    """Called with keyword tensors, it answers from what the index holds then.

    Args:
      functions, description, takes_exclusions: As of `EmbeddingSignature`.
      items: `LiveIndex`.
    """

    def __init__(
        self,
        functions: Mapping[str, Any],
        items: LiveIndex,
        description: Mapping[str, Any],
        takes_exclusions: bool,
    ) -> None:
        super().__init__(functions, description, takes_exclusions)
        self._items, self._scale = items, None
        if "popularity" in description:
            self._scale = PopularityScale(**description["popularity"])

    def _search(
        self, queries: np.ndarray, given: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        num_rows, k = len(queries), int(given["k"])
        if k < 1:
            raise ValueError(f"`k` must be at least 1, received {k}.")
        wheres = per_row("where", given["where"], num_rows)
        exclusions = self._exclusions(given, num_rows)
        # Of a query that is NaN or infinite there is no answer; the others have theirs.
        usable = np.isfinite(queries).all(axis=1)
        queries = np.where(usable[:, np.newaxis], queries, np.float32(0))
        discounts = None
        if self._scale is not None:
            discounts = _discounts(given["popularity_discount"], num_rows)
            further = np.float32(-self._scale.scale) * discounts[:, np.newaxis]
            queries = np.concatenate([queries, further], axis=1)
        answer = self._empty(num_rows, k)
        for where in dict.fromkeys(wheres):
            rows = np.array(
                [
                    row
                    for row, (each, use) in enumerate(zip(wheres, usable, strict=True))
                    if use and each == where
                ],
                np.int64,
            )
            of_rows = None if exclusions is None else [exclusions[row] for row in rows]
            found = self._items.search(queries[rows], k, where or None, of_rows)
            _fill(answer, rows, found)
        if self._scale is not None and discounts is not None:
            centre = np.float32(self._scale.centre)
            answer["scores"] -= centre * discounts[:, np.newaxis]
        return answer

    def _empty(self, num_rows: int, k: int) -> dict[str, np.ndarray]:
        """An answer of nothing."""
        answer = {}
        for name, spec in self.outputs.items():
            dtype = spec.dtype.as_numpy_dtype
            filler: Any = b"" if dtype is object else 0
            if name == "scores":
                filler = -np.inf
            elif name == "ids" and dtype is not object:
                filler = -1
            answer[name] = np.full([num_rows, k], filler, dtype)
        return answer


def _fill(answer: dict[str, np.ndarray], rows: np.ndarray, found: LiveAnswer) -> None:
    """Writes what was found for some rows."""
    width = found.scores.shape[1]
    places = np.ix_(rows, np.arange(width))
    columns = {"ids": found.ids, "scores": found.scores, **found.payload}
    for name, values in columns.items():
        if values.dtype == object:
            flat = np.empty(values.size, object)
            # Half of a surrogate pair is a text in Python.
            flat[:] = [t.encode("utf-8", "surrogatepass") for t in values.flat]
            values = flat.reshape(values.shape)
        answer[name][places] = values


def _discounts(values: np.ndarray, num_rows: int) -> np.ndarray:
    if not (np.abs(values) <= MAX_DISCOUNT).all():  # False for NaN.
        raise ValueError(
            f"`popularity_discount` must be numbers from -{MAX_DISCOUNT:,.0f} to "
            f"{MAX_DISCOUNT:,.0f}, received NaN, infinity or a larger one."
        )
    return np.array(per_row("popularity_discount", values, num_rows), np.float32)
