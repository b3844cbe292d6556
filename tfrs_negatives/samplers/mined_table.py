"""Tables of mined items, as positions in the corpus."""

import numpy as np
import tensorflow as tf

from tfrs_negatives._ids import is_padding

# Rows looked up at once, so that what a table needs on the way stays small.
_ROWS = 2**16


def table_positions(table, lookup, num_rows):
    """Turns a table of ids into one of positions.

    Args:
      table: [R, W] ids, best rank first, padded with negative numbers or "".
      lookup: The corpus's `IdLookup`.
      num_rows: The expected R, or None.

    Returns:
      [R, W] int32 array, -1 where padded and where a row repeats an id of a better
      rank.

    Raises:
      ValueError: Not a matrix, another height than R, no column, ids that are not in
        the corpus.
    """
    shape = np.shape(table)
    if len(shape) != 2 or 0 in shape:
        raise ValueError(
            "`table` must be a matrix [R, W] of ids, one row a query or item, received "
            f"shape {tuple(shape)}."
        )
    if num_rows is not None and shape[0] != num_rows:
        raise ValueError(
            f"`table` must have one row for each row id: expected {num_rows} rows, "
            f"received {shape[0]}. Mine for all rows, and pad those without items."
        )
    positions = np.empty(shape, np.int32)
    absent = []
    for start in range(0, shape[0], _ROWS):
        with tf.device("CPU:0"):
            ids = tf.convert_to_tensor(table[start : start + _ROWS])
            found = lookup("table", ids).numpy()
            padding = is_padding(ids).numpy()
        unknown = (found == lookup.size) & ~padding
        absent.extend(ids.numpy()[unknown].tolist())
        positions[start : start + _ROWS] = np.where(padding, -1, found)
    if absent:
        examples = ", ".join(repr(i) for i in list(dict.fromkeys(absent))[:5])
        raise ValueError(
            f"`table` must hold ids of the corpus, or negative numbers or '' as "
            f"padding, received {len(absent)} entries of other ids: {examples}. Mine "
            "over the corpus that the sampler draws from."
        )
    _drop_repeats(positions)
    return positions


def count_in_range(table, start, stop):
    """[R], how many items each row has in columns start to stop.

    Args:
      table: [R, W] positions, an array or tensor, -1 for padding.
      start, stop: Columns.
    """
    counts = [
        np.count_nonzero(np.asarray(table[i : i + _ROWS, start:stop]) >= 0, axis=1)
        for i in range(0, table.shape[0], _ROWS)
    ]
    return np.concatenate(counts)


def _drop_repeats(positions):
    """Pads, in place, where a row has the same position further left."""
    ordered = np.sort(positions, axis=1)
    repeats = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    for row in np.flatnonzero(repeats.any(axis=1)):
        _, firsts = np.unique(positions[row], return_index=True)
        later = np.ones(positions.shape[1], bool)
        later[firsts] = False
        positions[row, later] = -1
