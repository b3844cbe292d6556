"""Each query's known positives, in rows of their own lengths."""

import numpy as np
import tensorflow as tf

# Positions below this can be told apart by row in one int64.
_MAX_SIZE = 2**31


class KnownPositives:
    """The positions of each row's known positives.

    Args:
      positives: None; ids `[Q]`, or `[Q, P]` filled with negative numbers or ""; a
        `tf.RaggedTensor`; or a sequence of Q sequences (a list, an array of objects,
        a pandas Series).
      source: A mining source, which says what position an id has.

    Raises:
      ValueError: for another rank, ids of another type than the source's, and ids
        that a complete source does not hold.
    """

    def __init__(self, positives, source):
        self.num_rows = None
        if positives is None:
            return
        values, lengths = _flattened(positives)
        real = ~_is_padding(values)
        self.num_rows = len(lengths)
        rows = np.repeat(np.arange(self.num_rows), lengths)[real]
        values = values[real]
        positions = source.positions(values)
        if source.complete and (positions < 0).any():
            absent = np.unique(values[positions < 0].astype(str))
            examples = ", ".join(absent[:5])
            raise ValueError(
                f"`positives` holds {len(absent)} distinct ids that the index does "
                f"not have, such as {examples}. Index these items, or take them out "
                "of `positives`."
            )
        self._positions = positions
        self._starts = np.searchsorted(rows, np.arange(self.num_rows + 1))

    def most(self, start, stop):
        """The largest number of positives that one of these rows has."""
        if self.num_rows is None or start == stop:
            return 0
        return int(np.diff(self._starts[start : stop + 1]).max())

    def among(self, positions, start):
        """Which of the positions `[b, k]`, of the rows from `start`, are positives."""
        if self.num_rows is None:
            return np.zeros(positions.shape, bool)
        starts = self._starts[start : start + len(positions) + 1]
        own = self._positions[starts[0] : starts[-1]]
        rows = np.repeat(np.arange(len(positions)), np.diff(starts))
        size = 1 + max(own.max(initial=0), positions.max(initial=0))
        if size > _MAX_SIZE:
            every = np.unique(np.concatenate([own, positions.ravel(), [-1]]))
            # The smallest is -1, and stays it.
            own = np.searchsorted(every, own) - 1
            positions = np.searchsorted(every, positions) - 1
            size = len(every)
        found = positions + size * np.arange(len(positions))[:, None]
        return np.isin(found, (own + size * rows)[own >= 0]) & (positions >= 0)


def with_own(own, positives):
    """Positives of items: what is known of each, and the item itself.

    Args:
      own: `[Q]` ids, an array.
      positives: As for `KnownPositives`, but not None.

    Returns:
      A `tf.RaggedTensor`.

    Raises:
      ValueError: Another number of rows, ids of another type.
    """
    values, lengths = _flattened(positives)
    own = _array(own)
    if len(lengths) != len(own):
        raise ValueError(
            f"`positives` must have one row per query ({len(own)}), received "
            f"{len(lengths)}."
        )
    if len(values) and (values.dtype == object) != (own.dtype == object):
        kinds = ["strings" if a.dtype == object else "integers" for a in (own, values)]
        raise ValueError(
            f"`positives` must hold {kinds[0]}, as the candidates' ids are, received "
            f"{kinds[1]}."
        )
    rows = np.concatenate(
        [np.arange(len(own)), np.repeat(np.arange(len(own)), lengths)]
    )
    every = np.concatenate([own, values if len(values) else values.astype(own.dtype)])
    order = np.argsort(rows, kind="stable")
    return tf.RaggedTensor.from_row_lengths(every[order], lengths + 1)


def _flattened(positives):
    """All ids in one vector, and how many of them each row has."""
    if isinstance(positives, tf.RaggedTensor):
        if positives.ragged_rank != 1 or positives.flat_values.shape.rank != 1:
            raise ValueError(
                "`positives` must have shape [queries, positives], received a ragged "
                f"tensor of shape {positives.shape}."
            )
        return _array(positives.flat_values), positives.row_lengths().numpy()
    if not isinstance(positives, (list, tuple, tf.Tensor)):
        array = np.asarray(positives)
        if array.dtype == object and array.ndim == 1:
            # Each of its objects may be a sequence.
            positives = array.tolist()
    if isinstance(positives, (list, tuple)):
        nested = [
            hasattr(row, "__len__") and not isinstance(row, (str, bytes))
            for row in positives
        ]
        if nested and all(nested):
            lengths = np.array([len(row) for row in positives])
            filled = [np.asarray(row) for row in positives if len(row)]
            if any(row.ndim != 1 for row in filled):
                raise ValueError("`positives` must be a sequence of vectors of ids.")
            if not filled:
                return np.zeros([0], np.int64), lengths
            return _array(np.concatenate(filled)), lengths
    array = _array(positives)
    if array.ndim not in (1, 2):
        raise ValueError(
            "`positives` must have shape [queries] or [queries, positives], received "
            f"{array.shape}. Fill short rows with -1 or an empty string."
        )
    width = 1 if array.ndim == 1 else array.shape[1]
    return array.ravel(), np.full(len(array), width)


def _array(ids):
    """Ids as integers, floats, or bytes objects."""
    ids = np.asarray(ids)
    if ids.dtype.kind in "iuf":
        return ids
    try:
        return np.asarray(tf.constant(ids, tf.string).numpy(), object)
    except (TypeError, ValueError) as error:
        raise ValueError(
            "`positives` must be integer or string ids, received values of type "
            f"{ids.dtype.name}."
        ) from error


def _is_padding(values):
    return values == b"" if values.dtype == object else values < 0
