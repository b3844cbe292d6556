"""What negatives are mined from: indexes, searchers and functions made alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfrs_negatives.index.identifiers import Identifiers, checked
from tfrs_negatives.index.top_k import TopK
from tfrs_negatives.types import TensorLike


@runtime_checkable
class MiningSource(Protocol):
    """Answers with positions, integers that stand for ids.

    So mining compares integers only.
    """

    @property
    def num_items(self) -> int | None:
        """How many items it holds, or None."""

    @property
    def complete(self) -> bool:
        """Whether an id that it does not know is a mistake."""

    @property
    def dot_products(self) -> bool:
        """Whether its scores can be dot products of embeddings."""

    def find(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Scores `[b, k]`, best first, and int64 positions `[b, k]` from 0.

        Behind short rows: -1.
        """

    def positions(self, ids: ArrayLike) -> np.ndarray:
        """Int64 positions of a vector of ids, -1 where there is none."""

    def ids(self, positions: np.ndarray) -> np.ndarray:
        """The ids of positions from 0, an array of their shape."""


class PybindSearcher(Protocol):
    """A searcher of `scann.scann_ops_pybind`."""

    @property
    def search_batched(self) -> Callable[..., tuple[Any, Any]]:
        """From queries to row numbers (or docids) and scores, best first."""


#: From queries and k to scores and ids, `[b, up to k]` each, best first.
SearchFunction: TypeAlias = Callable[[np.ndarray, int], tuple[ArrayLike, ArrayLike]]

#: What `as_source` takes.
MinedFrom: TypeAlias = TopK | MiningSource | SearchFunction | PybindSearcher


def as_source(index: MinedFrom, ids: TensorLike | None) -> MiningSource:
    """Returns `index` as a source.

    Args:
      index: One of our indexes, a `RankedPairs`, a searcher of
        `scann.scann_ops_pybind`, or a function.
      ids: Ids of a searcher's rows, or None.

    Raises:
      ValueError: for anything else, an index without candidates, and `ids` that do
        not fit or are not needed.
    """
    if hasattr(index, "search_batched"):
        return SearcherSource(index, ids)
    if ids is not None:
        raise ValueError(
            "`ids` names the rows of a scann_ops_pybind searcher; "
            f"{type(index).__name__} has ids of its own. Leave `ids` out."
        )
    if isinstance(index, TopK):
        return IndexSource(index)
    if isinstance(index, MiningSource):
        return index
    if callable(index):
        return FunctionSource(index)
    raise ValueError(
        "`index` must be a BruteForce, a ScaNN, a RankedPairs, a scann_ops_pybind "
        "searcher, or a function from (queries, k) to (scores, ids), received "
        f"{type(index).__name__}."
    )


class IdentifiedSource:
    """The ids of a source that knows all of them.

    Args:
      identifiers: `Identifiers`; positions are its rows.
    """

    complete = True
    dot_products = True

    def __init__(self, identifiers: Identifiers) -> None:
        self._identifiers = identifiers

    def positions(self, ids: ArrayLike) -> np.ndarray:
        ids, dtype = np.asarray(ids), self._identifiers.dtype
        if not ids.size:
            return np.zeros(ids.shape, np.int64)
        if (dtype == tf.string) != (ids.dtype.kind not in "iuf"):
            raise ValueError(
                f"The index holds {dtype.name} ids, received ids of type "
                f"{ids.dtype.name} (such as {ids.flat[0]!r}). Convert them."
            )
        if dtype == tf.string:
            return self._identifiers.positions(tf.constant(ids)).numpy().astype(int)
        # Ids that the dtype cannot hold are not in the index.
        narrow = ids.astype(dtype.as_numpy_dtype)
        found = self._identifiers.positions(tf.constant(narrow)).numpy()
        return np.where(narrow == ids, found, -1).astype(np.int64)

    def ids(self, positions: np.ndarray) -> np.ndarray:
        return self._identifiers.gather(tf.constant(positions, tf.int32)).numpy()


class IndexSource(IdentifiedSource):
    """A built `BruteForce` or `ScaNN`, queried by embeddings."""

    def __init__(self, index: TopK) -> None:
        self._searcher = index.searcher
        super().__init__(self._searcher.identifiers)
        self.num_items = self._searcher.num_rows

    def find(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores, positions = self._searcher.retrieve(queries, k)
        return scores.numpy(), positions.numpy().astype(np.int64)


class SearcherSource(IdentifiedSource):
    """A searcher of `scann.scann_ops_pybind`, queried by embeddings.

    At least 200 and 5 k of what it finds are scored exactly, as in `ScaNN`. How many
    leaves it looks into is what it was built with.

    Args:
      searcher: The searcher, of the dot product.
      ids: `[N]` ids of its rows; None: its docids, or the row numbers.
    """

    def __init__(self, searcher: Any, ids: TensorLike | None) -> None:
        if "DotProductDistance" not in searcher.config():
            raise ValueError(
                "The scann_ops_pybind searcher must have the distance measure "
                '"dot_product": the scores of others do not fall with the rank.'
            )
        self._searcher, self._rows = searcher, None
        self.num_items = searcher.size()
        if searcher.docids is not None:
            if ids is not None:
                raise ValueError(
                    "The searcher was built with docids, which are its ids. Leave "
                    "`ids` out."
                )
            ids = np.asarray(searcher.docids)
            self._rows = searcher.docid_to_id
        super().__init__(Identifiers(checked(ids, self.num_items)))

    def find(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        found, scores = self._searcher.search_batched(
            np.asarray(queries, np.float32),
            final_num_neighbors=k,
            pre_reorder_num_neighbors=max(200, 5 * k),
        )
        if self._rows is not None:
            found = [[self._rows[docid] for docid in row] for row in found]
        # Where it found too few, ScaNN returns NaN with row 0.
        missing = np.isnan(scores)
        positions = np.where(missing, -1, np.asarray(found, np.int64))
        return np.where(missing, -np.inf, scores), positions


class FunctionSource:
    """A function from (queries, k) to (scores, ids).

    Ids are numbered as they are met. Where the score is -inf there is no id.
    """

    num_items = None
    complete = False
    # Nothing is known against it.
    dot_products = True

    def __init__(self, function: SearchFunction) -> None:
        self._function = function
        self._dtype: np.dtype | None = None  # Of the ids returned.
        self._kind: str | None = None
        self._numbers: dict[Any, int] = {}
        # The reverse, a list: an array would be made again for each batch.
        self._names: list[Any] = []

    def find(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores, ids = (np.asarray(part) for part in self._function(queries, k))
        rows = len(queries)
        if scores.shape != ids.shape or scores.ndim != 2 or len(ids) != rows:
            raise ValueError(
                f"`index` must return scores and ids of shape [{rows}, up to {k}], "
                f"received shapes {scores.shape} and {ids.shape}."
            )
        if ids.dtype.kind not in "iuSUO":
            raise ValueError(
                "`index` must return (scores, ids) with integer or string ids, "
                f"received ids of type {ids.dtype.name}. Is the order right?"
            )
        self._dtype = ids.dtype if ids.dtype.kind in "iu" else np.dtype(object)
        scores = scores.astype(np.float64)
        # Where it is NaN too, for which mining has a message.
        is_hit = ~np.isneginf(scores)
        positions = np.full(ids.shape, -1, np.int64)
        positions[is_hit] = self.positions(ids[is_hit])
        return scores, positions

    def positions(self, ids: ArrayLike) -> np.ndarray:
        ids = np.asarray(ids)
        kind = "integers" if ids.dtype.kind in "iu" else "strings"
        if ids.size and self._kind not in (None, kind):
            raise ValueError(
                "`positives` and the ids that `index` returns must be of one type, "
                f"received {self._kind} and {kind}."
            )
        self._kind = kind if ids.size else self._kind
        ids = ids if kind == "integers" else _as_bytes(ids)
        distinct, places = np.unique(ids, return_inverse=True)
        numbers = [self._number(name) for name in distinct.tolist()]
        return np.array(numbers, np.int64)[places.ravel()]

    def _number(self, name: Any) -> int:
        number = self._numbers.setdefault(name, len(self._names))
        if number == len(self._names):
            self._names.append(name)
        return number

    def ids(self, positions: np.ndarray) -> np.ndarray:
        # Only the names of these positions: there may be millions of others.
        distinct, places = np.unique(positions, return_inverse=True)
        names = np.array([self._names[p] for p in distinct.tolist()], self._dtype)
        return names[places.reshape(positions.shape)]


def _as_bytes(ids: np.ndarray) -> np.ndarray:
    """Strings of any kind as an array of bytes objects, as TensorFlow has them."""
    return np.asarray(tf.constant(ids).numpy(), object)
