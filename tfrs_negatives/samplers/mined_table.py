"""Tables of mined items, as positions in the corpus."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives._id_lists import flattened
from tfrs_negatives.samplers.item_corpus import IdLookup
from tfrs_negatives.types import ListsLike

# Rows looked up at once, so that what a table needs on the way stays small.
_ROWS = 2**16


def table_positions(
    table: ListsLike, lookup: IdLookup, num_rows: int | None
) -> np.ndarray:
    """Turns a table of ids into one of positions.

    Args:
      table: Ids, best rank first: `[R, W]`, of which each counts; or, of different
        lengths, a `tf.RaggedTensor` or a sequence of R sequences.
      lookup: The corpus's `IdLookup`.
      num_rows: The expected R, or None.

    Returns:
      [R, W] int32 array, W the length of the longest row; -1 behind shorter rows and
      where a row repeats an id of a better rank.

    Raises:
      ValueError: Of another rank or height, ids that are not in the corpus.
    """
    values, lengths = flattened("table", table, ranks=(2,))
    if not len(lengths):
        raise ValueError(
            "`table` must have one row of ids for each query or item, received none."
        )
    if num_rows is not None and len(lengths) != num_rows:
        raise ValueError(
            f"`table` must have one row for each row id: expected {num_rows} rows, "
            f"received {len(lengths)}. Mine for all rows, and leave those empty that "
            "have no items."
        )
    width = lengths.max()
    positions = np.full([len(lengths), width], -1, np.int32)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    absent = []
    for start in range(0, len(lengths), _ROWS):
        rows = slice(start, start + _ROWS)
        first, *_, last = starts[start : start + _ROWS + 1]
        if first == last:
            continue
        with tf.device("CPU:0"):
            ids = tf.convert_to_tensor(values[first:last])
            found = lookup("table", ids).numpy()
        absent.extend(ids.numpy()[found == lookup.size].tolist())
        positions[rows][np.arange(width) < lengths[rows, np.newaxis]] = found
    if absent:
        examples = ", ".join(repr(i) for i in list(dict.fromkeys(absent))[:5])
        raise ValueError(
            f"`table` must hold ids of the corpus, received {len(absent)} entries of "
            f"other ids: {examples}. Mine over the corpus that the sampler draws from; "
            "rows of different lengths are a tf.RaggedTensor."
        )
    _drop_repeats(positions)
    return positions


def count_in_range(table: np.ndarray | tf.Tensor, start: int, stop: int) -> np.ndarray:
    """[R], how many items each row has in columns start to stop.

    Args:
      table: [R, W] positions, an array or tensor, -1 for none.
      start, stop: Columns.
    """
    counts = [
        np.count_nonzero(np.asarray(table[i : i + _ROWS, start:stop]) >= 0, axis=1)
        for i in range(0, table.shape[0], _ROWS)
    ]
    return np.concatenate(counts)


def _drop_repeats(positions: np.ndarray) -> None:
    """Puts -1, in place, where a row has the same position further left."""
    ordered = np.sort(positions, axis=1)
    repeats = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    for row in np.flatnonzero(repeats.any(axis=1)):
        _, firsts = np.unique(positions[row], return_index=True)
        later = np.ones(positions.shape[1], bool)
        later[firsts] = False
        positions[row, later] = -1
