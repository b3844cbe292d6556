"""The columns that rows are scored against: which there are, and in what order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from tfrs_negatives import _checks, distribute
from tfrs_negatives.layers.cross_batch_memory import Entries
from tfrs_negatives.losses.false_negative_filter import Guide
from tfrs_negatives.losses.rules import SortedColumns
from tfrs_negatives.metrics.negatives import SOURCES
from tfrs_negatives.tasks.batch import Batch
from tfrs_negatives.tasks.keys import Keys
from tfrs_negatives.tasks.options import Options
from tfrs_negatives.tasks.repeats import Repeats


class Columns:
    """Lays out the columns of a batch. Nothing else inserts, slices or counts them.

    In this order:

    1. this replica's own positives, so that row i's positive is column i;
    2. with global negatives, the other replicas' positives;
    3. with a memory, its entries;
    4. the extra negatives, everyone's with global negatives.

    Args:
      batch: This replica's.
      options: The task's.

    Attributes:
      size: How many there are, scalar int32.
      num_positives: How many lead that are positives of rows, scalar int32.
      keys_of_positives: `Keys` [num_positives] by name, those of their rows.
    """

    def __init__(self, batch: Batch, options: Options) -> None:
        self._batch = batch
        self._compresses = bool(options.gather_dtype)
        self._order = None
        self.num_positives, self._num_offered = batch.num_rows, batch.num_candidates
        if options.global_negatives and distribute.num_replicas() > 1:
            self._order_replicas()
        self.size = self._num_offered
        self._entries: Entries | None = None
        if options.memory is not None:
            self._entries = options.memory.read(batch.all_rows)
            self.size += _checks.size(self._entries.ids)
        self.keys_of_positives = {
            name: keys.map(self.of_positives) for name, keys in batch.keys.items()
        }
        self._ids: Keys | None = None
        self._by_item: SortedColumns | None = None
        if batch.compares_ids:
            self._ids = self._with_memory_keys(
                Keys(self._of_candidates(batch.item_ids)),
                lambda entries: Keys(entries.ids, entries.has_id),
            )

    def _order_replicas(self) -> None:
        """Finds where all replicas' candidates stand, as they arrive one by one."""
        counts = tf.stack([self._batch.num_rows, self._batch.num_candidates])
        rows, candidates = tf.unstack(distribute.gather(counts[tf.newaxis]), axis=1)
        place = distribute.place()
        self._begin = tf.reduce_sum(rows[:place])
        arrived = tf.range(tf.reduce_sum(candidates))
        ends = tf.cumsum(candidates)
        owner = tf.searchsorted(ends, arrived, side="right")
        is_positive = arrived < tf.gather(ends - candidates + rows, owner)
        is_own = is_positive & tf.equal(owner, place)
        group = 2 - tf.cast(is_positive, tf.int32) - tf.cast(is_own, tf.int32)
        self._order = tf.argsort(group, stable=True)
        self.num_positives, self._num_offered = tf.reduce_sum(rows), tf.size(arrived)

    @property
    def has_ids(self) -> bool:
        """Whether the items of the columns are known, as something compares them."""
        return self._ids is not None

    @property
    def ids(self) -> Keys:
        """`Keys` [size], the items that the columns hold; where it `has_ids`."""
        assert self._ids is not None
        return self._ids

    @property
    def by_item(self) -> SortedColumns:
        """The columns in the order of their items, sorted once."""
        # No `functools.cached_property`: up to Python 3.11 its lock is one for all
        # replicas, whose threads wait for each other.
        if self._by_item is None:
            self._by_item = SortedColumns(self.ids.values, self.size, self.ids.mask)
        return self._by_item

    def embeddings(self, candidates: tf.Tensor) -> tf.Tensor:
        """[size, d] from the candidates' [C, d]."""
        return self._with_memory(
            self._of_candidates(candidates), lambda entries: entries.embeddings
        )

    def guide(self, guide: Guide | None) -> Guide | None:
        """The guide of columns, from that of candidates; None from None."""
        # A memory has no entries of a guide, see `Batch`.
        if guide is None or guide.candidates is None:
            return guide
        candidates = self._of_candidates(guide.candidates)
        return dataclasses.replace(guide, candidates=candidates)

    def log_q(self, log_q: tf.Tensor | None) -> tf.Tensor | None:
        """[size] from the candidates' [C]; None from None."""
        if log_q is None:
            return None
        return self._with_memory(
            self._of_candidates(log_q), lambda entries: entries.log_q
        )

    def keys(self, name: str | None) -> Keys:
        """`Keys` of the columns, or of as many as have some.

        Candidates have their own, or those of their rows; then extra negatives have
        none.
        """
        own = self._batch.candidate_keys.get(name)
        if own is None:
            keys = self.keys_of_positives[name]
        else:
            keys = own.map(self._of_candidates)
        place = list(self._batch.keys).index(name)
        return self._with_memory_keys(
            keys,
            lambda entries: Keys(entries.keys[:, place], entries.has_key[:, place]),
        )

    def strata(self, of_candidates: Keys) -> Keys:
        """`Keys` of the columns from those of candidates [C]; without a memory."""
        return of_candidates.map(self._of_candidates)

    def score_mask(self, mask: tf.Tensor | None) -> tf.Tensor | None:
        """[B, size] from [B, C]: no mask speaks of the memory's entries."""
        if mask is None or self._entries is None:
            return mask
        shape = tf.stack([tf.shape(mask)[0], tf.size(self._entries.ids)])
        return self._behind_positives(mask, tf.ones(shape, tf.bool), axis=1)

    def places(self, repeats: Repeats) -> tuple[tf.Tensor, tf.Tensor]:
        """The embeddings that the columns use, and which each uses.

        Returns:
          [V', d] and [size] int32.
        """
        candidates, rows = repeats.candidates, repeats.candidate_rows
        if self._order is not None:
            begin, _ = distribute.rows_before(_checks.size(candidates))
            candidates = distribute.gather(candidates, self._compresses)
            rows = self._of_candidates(rows + begin)
        if self._entries is None:
            return candidates, rows
        recalled = self._entries.embeddings
        candidates, recalled = _of_one_dtype(candidates, recalled)
        behind = tf.shape(candidates)[0] + tf.range(tf.shape(recalled)[0])
        candidates = tf.concat([candidates, recalled], axis=0)
        return candidates, self._behind_positives(rows, behind)

    def positives(self, values: tf.Tensor) -> tf.Tensor:
        """[num_positives, ...] from values of columns [size, ...]."""
        return values[: self.num_positives]

    def own(self, values: tf.Tensor) -> tf.Tensor:
        """[B, ...], of the rows' own positives, from values of columns."""
        return values[: self._batch.num_rows]

    def of_positives(self, values: tf.Tensor) -> tf.Tensor:
        """[num_positives, ...] from values of this replica's rows [B, ...]."""
        if self._order is None:
            return values
        everyone = distribute.gather(values)
        # Its own go to the front, the others keep their order.
        end = self._begin + tf.shape(values)[0]
        order = tf.concat(
            [
                tf.range(self._begin, end),
                tf.range(self._begin),
                tf.range(end, self.num_positives),
            ],
            axis=0,
        )
        return tf.gather(everyone, order)

    def in_replica_order(self, values: tf.Tensor) -> tf.Tensor:
        """All replicas' rows, the same on each, from [num_positives, ...]."""
        if self._order is None:
            return distribute.gather(values)
        own, behind = self._batch.num_rows, self._batch.num_rows + self._begin
        parts = [values[own:behind], values[:own], values[behind:]]
        return tf.concat(parts, axis=0)

    def sources(self, num_own: tf.Tensor) -> tf.Tensor:
        """Where each column is from.

        Args:
          num_own: M, the negatives that each row has of its own, scalar int32.

        Returns:
          [size + M] int32, places in `metrics.negatives.SOURCES`.
        """
        counts = {
            "in_batch": self.num_positives,
            "memory": self.size - self._num_offered,
            "extra": self._num_offered - self.num_positives,
            "per_row": num_own,
        }
        return tf.concat(
            [tf.fill([count], SOURCES.index(name)) for name, count in counts.items()],
            axis=0,
        )

    def _of_candidates(self, values: tf.Tensor) -> tf.Tensor:
        """Everyone's candidates [offered, ...], positives first, from own [C, ...]."""
        if self._order is None:
            return values
        return _permute(distribute.gather(values, self._compresses), self._order)

    def _with_memory(
        self, values: tf.Tensor, part: Callable[[Entries], tf.Tensor]
    ) -> tf.Tensor:
        """The memory's floats behind the positives' [offered, ...]."""
        if self._entries is None:
            return values
        values, recalled = _of_one_dtype(values, part(self._entries))
        return self._behind_positives(values, recalled)

    def _with_memory_keys(self, keys: Keys, part: Callable[[Entries], Keys]) -> Keys:
        if self._entries is None:
            return keys
        recalled = part(self._entries)
        return Keys(
            self._behind_positives(keys.values, recalled.values),
            self._behind_positives(keys.present(), recalled.present()),
        )

    def _behind_positives(
        self, values: tf.Tensor, recalled: tf.Tensor, axis: int = 0
    ) -> tf.Tensor:
        if axis == 1:
            parts = values[:, : self.num_positives], values[:, self.num_positives :]
        else:
            parts = values[: self.num_positives], values[self.num_positives :]
        return tf.concat([parts[0], recalled, parts[1]], axis=axis)


def _of_one_dtype(
    values: tf.Tensor, recalled: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Floats of a batch and of a memory, float32 unless the batch's are float64."""
    if values.dtype != tf.float64:
        values = tf.cast(values, tf.float32)
    return values, tf.cast(recalled, values.dtype)


@tf.custom_gradient
def _permute(values: tf.Tensor, order: tf.Tensor) -> tuple:
    """values[order], whose gradient is a gather too."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        return tf.gather(upstream, tf.math.invert_permutation(order)), None

    return tf.gather(values, order), gradient
