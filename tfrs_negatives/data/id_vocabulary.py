"""The distinct ids of a column that is read part by part, and their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from tfrs_negatives._ids import as_int64
from tfrs_negatives.data.sorted_values import distinct

if TYPE_CHECKING:
    import pyarrow as pa

    from tfrs_negatives.data.arrow_columns import Column

# Parts are merged when they hold so many ids, or as many as the ids before them: so
# merging takes time in proportion to all parts.
_MERGE = 2**22


class IdVocabulary:
    """Collects the ids of a column, and then numbers them in ascending order.

    Rows go by int64 keys meanwhile: integers by themselves, strings by a hash.

    Memory: 8 bytes a distinct id, of strings 90 and their text; three times that for a
    moment while parts are merged. How many rows there are does not matter.

    Args:
      is_text: Whether ids are text although they may be whole numbers, which they
        become if each value, of rows that were left out too, is written as such.
    """

    def __init__(self, is_text: bool = False) -> None:
        self._are_whole = is_text
        self._parts: list[tuple[np.ndarray, pa.Array | None]] = []
        self._num_held, self._num_merged = 0, 0

    def add(self, column: Column) -> np.ndarray:
        """Adds a part of the column.

        Args:
          column: int64 array [n], or `arrow_columns.EncodedText`; alike in all parts.

        Returns:
          [n] int64 keys: equal for equal ids only.

        Raises:
          ValueError: Two strings have one hash, of which the chance is about n^2 / 2^64
            for n strings. Told when parts are merged.
        """
        from tfrs_negatives.data import arrow_columns

        if isinstance(column, np.ndarray):
            self._hold(distinct(column), None)
            return column
        if self._are_whole:  # As a column is: by values of all rows.
            whole = arrow_columns.whole_numbers(column.values)
            self._are_whole = whole is not None
        used = distinct(column.codes)  # Values of rows that were left out are no ids.
        values = column.values.take(used)
        hashes = np.zeros(len(column.values), np.int64)
        hashes[used] = hashes_of(values)
        self._hold(hashes[used], values)
        return hashes[column.codes]

    def finish(self) -> IdNumbers:
        """The ids that were added."""
        import pyarrow.compute as pc

        from tfrs_negatives.data import arrow_columns

        self._merge()
        keys, values = self._parts[0] if self._parts else (np.zeros(0, np.int64), None)
        self._parts = []
        if values is None:
            return IdNumbers(keys, keys, None)
        whole = arrow_columns.whole_numbers(values) if self._are_whole else None
        if whole is not None:
            order = np.argsort(whole)
            ids = whole[order]
        else:
            # UTF-8 is in the order of code points, as strings of Python are.
            order = pc.sort_indices(values).to_numpy()
            ids = values.take(order).to_numpy(zero_copy_only=False)
        numbers = np.empty(len(order), np.int64)
        numbers[order] = np.arange(len(order))
        return IdNumbers(ids, keys, numbers)

    def _hold(self, keys: np.ndarray, values: pa.Array | None) -> None:
        self._parts.append((keys, values))
        self._num_held += len(keys)
        if self._num_held > max(_MERGE, 2 * self._num_merged):
            self._merge()

    def _merge(self) -> None:
        """Makes one part of all, with each id once and keys in ascending order."""
        if not self._parts:
            return
        keys = np.concatenate([keys for keys, _ in self._parts])
        if self._parts[0][1] is None:
            keys, values = distinct(keys), None
        else:
            keys, values = _merged(keys, [values for _, values in self._parts])
        self._parts = [(keys, values)]
        self._num_held = self._num_merged = len(keys)


class IdNumbers:
    """Distinct ids in ascending order, and the number of each: its place.

    Args:
      ids: [N] int64, or objects of `str`.
      keys: [N] int64 in ascending order, what rows have in place of an id.
      numbers: [N] the number of each key; None: its place.

    Attributes:
      ids: As given.
    """

    def __init__(
        self, ids: np.ndarray, keys: np.ndarray, numbers: np.ndarray | None
    ) -> None:
        self.ids, self._keys, self._numbers = ids, keys, numbers

    def __len__(self) -> int:
        return len(self.ids)

    def __call__(self, keys: np.ndarray) -> np.ndarray:
        """Numbers of the keys of rows: [n] int64, where 0 is the least id."""
        import pyarrow as pa

        # Each key is looked for once, in ascending order: in memory's order too.
        encoded = pa.array(keys).dictionary_encode()
        distinct = encoded.dictionary.to_numpy()
        order = np.argsort(distinct)
        places = np.empty(len(order), np.int64)
        places[order] = np.searchsorted(self._keys, distinct[order])
        if self._numbers is not None:
            places = self._numbers[places]
        return places[encoded.indices.to_numpy()]


def hashes_of(values: pa.Array) -> np.ndarray:
    """int64 for each of an Arrow array of strings."""
    texts = values.to_numpy(zero_copy_only=False)
    return as_int64("ids", tf.constant(texts, tf.string)).numpy()


def _merged(
    keys: np.ndarray, parts: list[pa.Array | None]
) -> tuple[np.ndarray, pa.Array]:
    """Distinct keys and their strings."""
    import pyarrow as pa
    import pyarrow.compute as pc

    values = pa.concat_arrays(parts)
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values.take(pa.array(order))
    is_new = np.append(True, keys[1:] != keys[:-1])[: len(keys)]
    same = pc.equal(values.slice(1), values.slice(0, max(len(values) - 1, 0)))
    if not (is_new[1:] | same.to_numpy(zero_copy_only=False)).all():
        raise ValueError(
            "Two ids have one 64-bit hash. Number the ids, and use the numbers instead."
        )
    return keys[is_new], values.filter(pa.array(is_new))
