"""Negatives drawn from a table that mining fills."""

from __future__ import annotations

import warnings

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._repr import described
from tfrs_negatives.samplers.draw_context import DrawContext
from tfrs_negatives.samplers.item_corpus import IdLookup, ItemCorpus
from tfrs_negatives.samplers.mined_rows import MinedRows
from tfrs_negatives.samplers.mined_table import count_in_range, table_positions
from tfrs_negatives.samplers.proposal import Proposal
from tfrs_negatives.samplers.sampler import Sampler
from tfrs_negatives.types import CorpusLike, ListsLike, LogQSource, TensorLike

_NO_END = 2**31 - 1


class Mined(Sampler):
    """Draws from each row's mined items, uniformly over a range of ranks.

    A row of the batch names its row of the table: by its query (user), or by its
    positive item. Its draws are without replacement, from columns
    [range_min, range_max) of that row. The top ranks of any mining are where
    positives that nobody recorded are, so `range_min` skips them.

    If a row has fewer items than asked for, or is not in the table, the missing draws
    are masked (mask False). They are never filled with repeats. `num_padded` counts
    them. A warning says how many rows of the table are short: before the pipeline is
    made, before another table is assigned, and in a running pipeline when a newly
    assigned range leaves rows short.

    In a `Mixture` draws are with replacement, so that its log q is that of each draw.

    Everything that changes is a variable, and every element reads it. So a running
    pipeline sees a new table or range without being built again (elements that were
    prefetched have the old one), and `tf.train.Checkpoint(sampler=...)` saves all of
    it.

    Memory in addition to the corpus: 4 bytes an entry of the table; twice that in
    `assign`.

    Args:
      corpus: The items' features; see `Sampler`.
      table: Ids of items, best (hardest) rank first: [R, W], of which each counts; or,
        of different lengths, a `tf.RaggedTensor` as `index.mine_hard_negatives` returns
        it, or a list of lists. An id that a row repeats counts once. `[[]] * R` is a
        table that `callbacks.RefreshNegatives` will fill.
      row_feature: The elements' feature [B] that names each row's row of the table.
      row_ids: [R] distinct ids, one for each row of the table, as `row_feature` holds
        them. None: `row_feature` holds row numbers of the table.
      id_feature: Which feature of the corpus holds the ids; see `Sampler`.
      range_min: First column drawn from.
      range_max: Column after the last drawn from; None for the table's width, the
        length of its longest row.

    Attributes:
      num_items: N.
      table: int32 variable [R, W], positions in the corpus, -1 for none.
      range_min, range_max: int32 variables. Of an empty range nothing is drawn.
      table_rows: Function from (name, ids) to where ids are among `row_ids`, R for
        those that are not.
      refreshed_at: int64 variable, the step last given to `assign`.
      num_padded: int64 variable, how many draws there was nothing for.

    Raises:
      ValueError: Tables of another rank or height, or with ids that the corpus lacks;
        row ids that repeat; range_min >= range_max, or not below the table's width.

    Example:
      >>> table = [["jam", "milk"], ["tea", "jam"]]  # Hardest first.
      >>> sampler = tn.samplers.Mined(
      ...     ["tea", "milk", "jam"], table, "user", row_ids=["ann", "bob"], range_max=1
      ... )
      >>> rows = tf.data.Dataset.from_tensor_slices({"user": ["bob", "ann"]}).batch(2)
      >>> batch = next(iter(sampler.attach(rows, 1, per_row=True)))
      >>> batch["negatives"].numpy().tolist()
      [[b'tea'], [b'jam']]
    """

    _rows_only = True

    def __init__(
        self,
        corpus: CorpusLike | ItemCorpus,
        table: ListsLike,
        row_feature: str,
        *,
        row_ids: TensorLike | None = None,
        id_feature: str | None = None,
        range_min: int = 0,
        range_max: int | None = None,
    ) -> None:
        _checks.check_at_least("range_min", range_min, 0)
        range_max = _NO_END if range_max is None else range_max
        if not range_min < range_max:
            raise ValueError(
                "Columns from `range_min` up to `range_max` are drawn from: expected "
                f"range_min < range_max, received {range_min} and {range_max}."
            )
        super().__init__(corpus, id_feature)
        num_rows = None if row_ids is None else int(np.shape(row_ids)[0])
        positions = table_positions(table, self._corpus.lookup, num_rows)
        _check_width(positions, range_min)
        self.table_rows = IdLookup(
            "row_ids", positions.shape[0] if row_ids is None else row_ids
        )
        self.row_feature = row_feature
        self._most_asked, self._replacement = 0, False
        # The range last looked at, and how much of it was then told to be lacking.
        self._seen_start = self._seen_stop = self._told = 0
        with tf.device("CPU:0"):
            self.table = tf.Variable(
                positions,
                trainable=False,
                shape=[positions.shape[0], None],
                name="table",
            )
            self.range_min = _state("range_min", range_min, tf.int32)
            self.range_max = _state("range_max", range_max, tf.int32)
            self.refreshed_at = _state("refreshed_at", 0, tf.int64)
            self.num_padded = _state("num_padded", 0, tf.int64)

    def __repr__(self) -> str:
        has_end = not tf.executing_eagerly() or int(self.range_max.numpy()) != _NO_END
        return described(
            self,
            num_items=self.num_items,
            num_rows=self.table.shape[0],
            row_feature=self.row_feature,
            range_min=self.range_min,
            range_max=self.range_max if has_end else None,
        )

    @property
    def log_q(self) -> LogQSource:
        raise ValueError(
            "`Mined` has no log q of an id: a mined draw belongs to one row of the "
            "batch. Use the feature that `attach` adds, '<name>_log_q'."
        )

    def assign(self, table: ListsLike, step: int | tf.Tensor | None = None) -> None:
        """Puts another table in the place of this one, at once for all readers.

        Args:
          table: As in the constructor; its width may differ.
          step: The training step that it was mined at, for `refreshed_at`; None
            leaves that as it is.

        Raises:
          ValueError: As in the constructor. The old table then stays.
        """
        positions = table_positions(table, self._corpus.lookup, self.table_rows.size)
        _check_width(positions, int(self.range_min.numpy()))
        if step is not None:
            step = tf.convert_to_tensor(step, tf.int64)
        # Before the swap, since a warning may be made an error.
        if self._most_asked:
            self._warn_if_short(positions)
        self.table.assign(positions)
        if step is not None:
            self.refreshed_at.assign(step)

    @property
    def _needs(self) -> tuple[str, ...]:
        return (self.row_feature,)

    def _check_supply(self, num_negatives: int, replacement: bool = False) -> None:
        if num_negatives > self._most_asked:
            self._most_asked, self._replacement = num_negatives, replacement
        self._warn_if_short(self.table.value())

    def _warn_if_short(self, table: np.ndarray | tf.Tensor) -> None:
        """Warns of rows that have fewer items in range than were asked for."""
        start, stop = self._range()
        self._told = 0
        self._warn_of(count_in_range(table, start, stop), start, stop, "mined table's")

    def _warn_of(self, counts: np.ndarray, start: int, stop: int, whose: str) -> None:
        """Warns unless as much was told before, by what rows have in range."""
        self._seen_start, self._seen_stop = start, stop
        short = counts < self._most_asked
        empty = int((counts < 1).sum())
        told, self._told = (
            self._told,
            0 if not short.any() else 1 + int(short.all()) + (empty == len(counts)),
        )
        if self._told <= told:
            return
        rest = "the rest of their draws is masked"
        if self._replacement:
            rest = f"draws of {empty} without any are masked, others are repeats"
        columns = f"from {start}" + ("" if stop == _NO_END else f" up to {stop}")
        warnings.warn(
            f"{short.sum()} of the {whose} {len(counts)} rows ({short.mean():.1%}) "
            f"have fewer than the {self._most_asked} negatives asked for, in columns "
            f"{columns}: {rest}. Mine more, or widen the range.",
            stacklevel=4,
        )

    def _range(self) -> tuple[int, int]:
        """The present range of columns."""
        return max(int(self.range_min.numpy()), 0), int(self.range_max.numpy())

    def _proposal(self, rows: DrawContext) -> Proposal:
        assert rows.element is not None  # As `_rows_only` says.
        ids = rows.element[self.row_feature]
        _checks.check_rank(self.row_feature, ids, (1,), "It names each row's table row")
        places = self.table_rows(self.row_feature, ids)
        # Not stateful, says this to tf.data: see `Sampler`.
        entries = tf.numpy_function(self._read, [places], tf.int32, stateful=False)
        entries.set_shape([ids.shape[0], None])
        return MinedRows(tf.cast(entries, tf.int64), rows, self.num_items)

    def _read(self, places: np.ndarray) -> np.ndarray:
        """The table's entries in range, [B, w] int32, -1 for unknown rows."""
        unknown = places >= self.table_rows.size
        with tf.device("CPU:0"):
            entries = tf.gather(self.table, np.where(unknown, 0, places)).numpy()
        entries[unknown] = -1
        start, stop = self._range()
        entries = entries[:, start:stop]
        if (start, stop) != (self._seen_start, self._seen_stop) and not unknown.all():
            # A range assigned since then. The whole table would take too long here.
            counts = np.count_nonzero(entries[~unknown] >= 0, axis=1)
            self._warn_of(counts, start, stop, "batch's")
        return entries


def _state(name: str, value: int, dtype: tf.DType) -> tf.Variable:
    return tf.Variable(value, trainable=False, dtype=dtype, name=name)


def _check_width(positions: np.ndarray, range_min: int) -> None:
    # A table without any item is to be filled later.
    if 0 < positions.shape[1] <= range_min:
        raise ValueError(
            f"`table` must be wider than `range_min`, expected more than {range_min} "
            f"columns, received {positions.shape[1]}: nothing would be drawn."
        )
