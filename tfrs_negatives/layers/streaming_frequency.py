"""Item probabilities learned from the training stream."""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfrs_negatives import _checks, distribute
from tfrs_negatives import _late_changes as late_changes
from tfrs_negatives._ids import as_int64, salted
from tfrs_negatives._keras import add_state, keras, unconverted
from tfrs_negatives._repr import described
from tfrs_negatives._xla import compiled_by_xla
from tfrs_negatives.layers.id_counts import checked_counts
from tfrs_negatives.types import Config, CountsLike, TensorLike

MODES = ("count", "hit")

# For 130,000 ids, in 8 MiB.
_DEFAULT_BUCKETS = 2**18
_DEFAULT_HASHES = 2

# Two hashes of as many are .01 to .02 nats off a bucket an id, see docs/log_q.md.
_BUCKETS_AN_ID = 2

# What a bucket counts up to: far enough from where float32 no longer adds one.
_MAX_OCCURRENCES = 2.0**23


class _Learned(NamedTuple):
    """What buckets [n] are about to take, equal ones equal values, and the clock."""

    buckets: tf.Tensor
    mean_gap: tf.Tensor
    occurrences: tf.Tensor
    elapsed: tf.Tensor
    now: tf.Tensor


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class StreamingFrequency(keras.layers.Layer):
    """Estimates log q of ids from the gaps between their occurrences.

    Algorithms 2 and 3 of Yi et al., "Sampling-bias-corrected neural modeling for
    large corpus item recommendations" (RecSys 2019): per hash bucket h, A[h] is
    when it last occurred and D[h] the mean gap between occurrences. When an id
    of the bucket occurs at time t, with learning rate a,

        D[h] <- (1 - a) D[h] + a (t - A[h]),    A[h] <- t,

    and q = 1 / D[h]; of several hashes the largest D is taken, since collisions
    only ever shorten gaps. The paper leaves open what an id does that occurs c
    times in one batch, and there are two quantities to estimate:

    * `mode="count"`: the probability that one draw gives the id; right for
      in-batch negatives, where a repeated column stays in the softmax. Time is
      counted in examples, the gap is shared by the c occurrences, and each is
      one step of the average: `D <- (1-a)^c D + (1 - (1-a)^c) (t - A) / c`.
    * `mode="hit"`: the probability that the id occurs in a batch at all; right
      where repeated columns are merged. Time is counted in batches, and an id
      takes one step a batch, as published.

    An average that starts from an arbitrary D needs several times 1/a
    occurrences to forget it, more than most items ever have. By default the
    first occurrences are therefore averaged evenly (the step is 1/n for the n-th
    until that falls below a), and the time since an id's last occurrence counts
    with the last step's weight, so that an item's q is its exact frequency until
    it has occurred 1/a times. Pass `initial_gap` for the published algorithm.

    State: 16 bytes a bucket and hash, never in half precision; it checkpoints with
    the model. The default, 8 MiB, is for 130,000 ids; with more, pass `num_ids`. A rare
    id that shares its buckets with a popular one is taken for popular: when more than
    half of the buckets are taken, a warning on stderr says so (at each doubling of the
    stream; not under XLA). XLA compiles the layer for integer ids.

    Args:
      num_buckets: Buckets H of each hash. None: chosen by `num_ids`.
      num_hashes: Number m of independent hashes; None: 2, or 1 for dense ids. More
        hashes of fewer buckets each stand collisions better, and take longer.
      learning_rate: a in (0, 1].
      mode: "count" or "hit".
      initial_gap: D before the first occurrence, in examples ("count") or
        batches ("hit"; the paper's simulations use 100), which is also the gap
        of ids never seen. None: warm-up as above; an id never seen then counts
        as if it occurred for the first time now.
      seed: Seed of the hashes.
      dense: Whether ids are integers from 0 to H - 1, each of which gets a bucket of
        its own: no collisions.
      name: Name of the layer.
      num_ids: How many distinct ids there are, about; then H is twice as much and at
        least 2^18, or as much if they are dense. None, as `num_buckets`: 2^18 buckets.

    Call arguments:
      ids: [n] int32, int64 or string.
      num_positives: How many leading ids are occurrences in the stream; the
        others (sampled negatives) are only looked up. None: all.
      num_columns: Ignored; the interface of `sampling_correction`.
      training: Whether to learn from the ids before looking them up, under a
        `tf.distribute` strategy from those of all replicas.

    Returns:
      [n] float32, log q: finite, at most 0.

    Raises:
      ValueError: Arguments out of range; ids of another dtype or rank.
      tf.errors.InvalidArgumentError: Dense ids out of range (XLA cannot raise: such
        an id then teaches nothing and gets another id's q).

    Reference:
      * Yi et al., "Sampling-bias-corrected neural modeling for large corpus item
        recommendations", RecSys 2019.

    Example:
      >>> frequency = tn.layers.StreamingFrequency(num_buckets=1000)
      >>> for _ in range(50):
      ...     log_q = frequency(tf.constant([7, 7, 7, 8]), training=True)
      >>> tf.exp(log_q).numpy().round(2)
      array([0.75, 0.75, 0.75, 0.25], dtype=float32)
    """

    def __init__(
        self,
        num_buckets: int | None = None,
        num_hashes: int | None = None,
        learning_rate: float = 0.01,
        mode: str = "count",
        initial_gap: float | None = None,
        seed: int = 0,
        dense: bool = False,
        name: str | None = None,
        *,
        num_ids: int | None = None,
    ) -> None:
        _checks.check_choice("mode", mode, MODES)
        if num_ids is not None:
            _checks.check_at_least("num_ids", num_ids, 1)
            if num_buckets is not None:
                raise ValueError(
                    "`num_ids` chooses the number of buckets: expected "
                    f"`num_buckets=None`, received {num_buckets}. Leave one out."
                )
            num_buckets = (
                num_ids if dense else max(_BUCKETS_AN_ID * num_ids, _DEFAULT_BUCKETS)
            )
        elif num_buckets is None:
            num_buckets = _DEFAULT_BUCKETS
        _checks.check_at_least("num_buckets", num_buckets, 1)
        if num_hashes is None:
            num_hashes = 1 if dense else _DEFAULT_HASHES
        _checks.check_at_least("num_hashes", num_hashes, 1)
        _checks.check_number("learning_rate", learning_rate)
        if not 0 < learning_rate <= 1:
            raise ValueError(
                f"`learning_rate` must be in (0, 1], received {learning_rate}. The "
                "paper uses 0.01; more follows drift faster, with more noise."
            )
        if initial_gap is not None:
            _checks.check_number("initial_gap", initial_gap)
        if initial_gap is not None and not initial_gap >= 1:
            raise ValueError(
                f"`initial_gap` must be at least 1, received {initial_gap}. A gap of 1 "
                "is an id that always occurs. Pass None for the warm-up."
            )
        if dense and num_hashes != 1:
            raise ValueError(
                f"`dense=True` hashes nothing: expected `num_hashes=1`, received "
                f"{num_hashes}."
            )
        super().__init__(name=name, autocast=False, dtype="float32")
        self.num_ids = num_ids
        self.num_buckets = num_buckets
        self.num_hashes = num_hashes
        self.learning_rate = learning_rate
        self.mode = mode
        self.initial_gap = initial_gap
        self.seed = seed
        self.dense = dense

        # One row of buckets after the other: bucket b of hash i is i * H + b.
        size = [num_buckets * num_hashes]
        self._clock = add_state(self, "clock", [], "int64")
        self._last_seen = add_state(self, "last_seen", size, "int64")
        self._mean_gap = add_state(
            self,
            "mean_gap",
            size,
            "float32",
            keras.initializers.Constant(initial_gap or 0.0),
        )
        self._occurrences = add_state(self, "occurrences", size, "float32")

    def __repr__(self) -> str:
        num_hashes = 1 if self.dense else _DEFAULT_HASHES
        sized_by_default = self.num_ids or self.num_buckets == _DEFAULT_BUCKETS
        return described(
            self,
            num_buckets=None if sized_by_default else self.num_buckets,
            num_hashes=None if self.num_hashes == num_hashes else self.num_hashes,
            learning_rate=self.learning_rate,
            mode=self.mode,
            initial_gap=self.initial_gap,
            seed=self.seed,
            dense=self.dense,
            num_ids=self.num_ids,
        )

    def get_config(self) -> Config:
        return {
            "name": self.name,
            "num_buckets": None if self.num_ids else self.num_buckets,
            "num_ids": self.num_ids,
            "num_hashes": self.num_hashes,
            "learning_rate": self.learning_rate,
            "mode": self.mode,
            "initial_gap": self.initial_gap,
            "seed": self.seed,
            "dense": self.dense,
        }

    def warm_start(self, counts: CountsLike, *, batch_size: int | None = None) -> None:
        """Starts from known counts, as if their stream had been seen already.

        Args:
          counts: As in `StaticFrequency`.
          batch_size: Examples a batch; needed, and only used, by `mode="hit"`.

        Raises:
          ValueError: Counts or ids out of range; no batch size where it is needed;
            a layer that has learned from a stream already.
        """
        ids, _, counts = checked_counts(counts)
        if self.mode == "hit":
            if batch_size is None:
                raise ValueError(
                    '`mode="hit"` counts in batches: expected `batch_size`, received '
                    "None. Pass the number of examples a batch."
                )
            _checks.check_at_least("batch_size", batch_size, 1)
        if int(self._clock) > 0:
            raise ValueError(
                f"A warm start comes first, this layer has counted up to "
                f"{int(self._clock)} already. Make a new layer."
            )
        total = counts.sum()
        # Repeated ids of one bucket share it.
        buckets = self._buckets(self._int64(tf.constant(ids))).numpy()
        occurred = np.zeros(self.num_buckets * self.num_hashes)
        for row in buckets:
            np.add.at(occurred, row, counts)
        seen = np.flatnonzero(occurred)
        share = occurred[seen] / total
        elapsed, times = total, occurred[seen]
        if self.mode == "hit":
            share = -np.expm1(batch_size * np.log1p(-share))
            elapsed = total / batch_size
            times = share * elapsed

        clock = max(round(elapsed), 1)
        self._clock.assign(clock)
        _write(self._last_seen, seen, tf.fill([len(seen)], tf.cast(clock, tf.int64)))
        _write(self._mean_gap, seen, tf.constant(1 / share, tf.float32))
        times = np.minimum(times, _MAX_OCCURRENCES)
        _write(self._occurrences, seen, tf.constant(times, tf.float32))
        self._warn_if_crowded(True)

    @unconverted
    def call(
        self,
        ids: TensorLike,
        num_positives: int | tf.Tensor | None = None,
        num_columns: int | tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        ids = self._int64(ids)
        _checks.check_rank("ids", ids, (1,), "Pass one id for each candidate.")
        buckets = self._buckets(ids)
        if training:
            learned = buckets[:, :num_positives]
            distribute.check_in_scope(self, self._clock)
            if distribute.num_replicas() > 1:
                learned = self._buckets(distribute.gather(ids[:num_positives]))
            late_changes.change_now(self)
            late_changes.change_late(self, self._learned(learned), self._write_learned)
        gaps, occurrences, last_seen, clock = self._looked_up(buckets)
        if self.initial_gap is None:
            gaps = self._with_open_gap(gaps, occurrences, last_seen, clock)
        return -tf.math.log(tf.reduce_max(gaps, axis=0))

    def _looked_up(
        self, buckets: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Gaps, occurrences and times of buckets [m, n], and the clock, as learned."""
        state = self._mean_gap, self._occurrences, self._last_seen
        late: _Learned | None = late_changes.awaited(self)
        if late is None:
            gaps, occurrences, last_seen = (tf.gather(part, buckets) for part in state)
            return gaps, occurrences, last_seen, tf.convert_to_tensor(self._clock)
        # What is about to be written in the place of what is.
        distinct, rows = tf.unique(
            tf.concat([late.buckets, tf.reshape(buckets, [-1])], axis=0)
        )
        num_learned = tf.size(late.buckets)
        places = rows[:num_learned, tf.newaxis]
        rows = tf.reshape(rows[num_learned:], tf.shape(buckets))
        now = tf.fill([num_learned], late.now)
        gaps, occurrences, last_seen = (
            tf.gather(
                tf.tensor_scatter_nd_update(tf.gather(part, distinct), places, new),
                rows,
            )
            for part, new in zip(
                state, (late.mean_gap, late.occurrences, now), strict=True
            )
        )
        return gaps, occurrences, last_seen, late.now

    def _with_open_gap(
        self,
        gaps: tf.Tensor,
        occurrences: tf.Tensor,
        last_seen: tf.Tensor,
        clock: tf.Tensor,
    ) -> tf.Tensor:
        """Counts the time since the last occurrence, which the average lacks."""
        # Workers of a parameter server write at the same time: another's occurrence
        # may be later than the clock that was read here.
        since = tf.cast(tf.maximum(clock - last_seen, 0), tf.float32)
        step = tf.maximum(self.learning_rate, 1 / tf.maximum(occurrences, 1))
        # Never seen is as if the first occurrence were the next one.
        never = tf.cast(clock + 1, tf.float32)
        return tf.where(occurrences > 0, gaps + step * since, never)

    def _learned(self, buckets: tf.Tensor) -> _Learned:
        """What the occurrences [m, n] make of the averages."""
        elapsed = tf.shape(buckets)[1] if self.mode == "count" else 1
        elapsed = tf.cast(elapsed, tf.int64)
        buckets = tf.reshape(buckets, [-1])
        now = self._clock + elapsed
        gap = tf.cast(now - tf.gather(self._last_seen, buckets), tf.float32)
        before = tf.gather(self._occurrences, buckets)
        repeats = tf.ones_like(before)
        occurrences = before + 1
        if self.mode == "count":
            repeats = self._repeats(buckets)
            occurrences = tf.minimum(before + repeats, _MAX_OCCURRENCES)
        # True of one writer; with more, what another wrote in between may break it.
        gap = tf.maximum(gap, repeats)
        # 1 - (1 - a)^c, for a = 1 too.
        step = 1.0 - tf.pow(1.0 - self.learning_rate, repeats)
        if self.initial_gap is None:
            step = tf.maximum(step, repeats / (before + repeats))
        old = tf.gather(self._mean_gap, buckets)
        mean_gap = old + step * (gap / repeats - old)
        return _Learned(buckets, mean_gap, occurrences, elapsed, now)

    def _repeats(self, buckets: tf.Tensor) -> tf.Tensor:
        """How often each of the buckets [n] occurs among them, [n] float32."""
        places, num_places = buckets, self.num_buckets * self.num_hashes
        if not compiled_by_xla():  # Whose shapes cannot depend on values.
            places, num_places = tf.unique(buckets).idx, tf.size(buckets)
        ones = tf.ones(tf.shape(buckets))
        counts = tf.math.unsorted_segment_sum(ones, places, num_places)
        return tf.gather(counts, places)

    def _write_learned(self, learned: _Learned) -> None:
        # For which ids were checked, and the state was read.
        with tf.control_dependencies([learned.mean_gap, learned.occurrences]):
            now = tf.fill(tf.shape(learned.buckets), learned.now)
            written = [
                self._clock.assign_add(learned.elapsed),
                _write(self._last_seen, learned.buckets, now),
                _write(self._mean_gap, learned.buckets, learned.mean_gap),
                _write(self._occurrences, learned.buckets, learned.occurrences),
            ]
        with tf.control_dependencies(written):
            # Where the highest bit is another one.
            before = learned.now - learned.elapsed
            has_doubled = tf.bitwise.bitwise_xor(learned.now, before) > before
            self._warn_if_crowded(has_doubled)

    def _warn_if_crowded(
        self, is_time: bool | tf.Tensor
    ) -> tf.Operation | tf.Tensor | None:
        """Says on stderr if more than half of the buckets are taken."""
        # Each dense id has its own bucket. XLA cannot print.
        if self.dense or compiled_by_xla():
            return tf.no_op()
        is_time = tf.logical_and(is_time, tf.equal(distribute.place(), 0))

        def look() -> tf.Operation | tf.Tensor | None:
            taken = tf.reduce_mean(tf.cast(self._occurrences > 0, tf.float32))
            return tf.cond(taken > 0.5, warn, tf.no_op)

        def warn() -> tf.Operation | None:
            return tf.print(
                f"WARNING: {self.name}: more than half of the {self.num_buckets} "
                "buckets of each hash are taken, so that rare ids share theirs with "
                "popular ones and are taken for popular. Pass `num_ids`, the number of "
                "distinct ids.",
                output_stream=sys.stderr,
            )

        return tf.cond(is_time, look, tf.no_op)

    def _int64(self, ids: TensorLike) -> tf.Tensor:
        """The ids as int64, checked before anything is learned from them."""
        if self.dense and tf.convert_to_tensor(ids).dtype == tf.string:
            raise ValueError(
                "`dense=True` takes integers: received strings. Look them up first, "
                "or leave `dense` out to hash them."
            )
        ids = as_int64("ids", ids)
        if not self.dense:
            return ids
        message = (
            f"Dense ids must be in [0, {self.num_buckets}), the number of buckets. "
            "Received ids from, and to:"
        )
        inside = tf.reduce_all((ids >= 0) & (ids < self.num_buckets))
        extremes = [tf.reduce_min(ids), tf.reduce_max(ids)]
        return _checks.guard(ids, tf.debugging.Assert(inside, [message, *extremes]))

    def _buckets(self, ids: tf.Tensor) -> tf.Tensor:
        """Buckets [m, n] of ids [n]."""
        if self.dense:
            return ids[tf.newaxis]
        salts = tf.range(1, self.num_hashes + 1) + self.seed * self.num_hashes
        z = salted(ids, salts) % tf.constant(self.num_buckets, tf.uint64)
        first_bucket = tf.range(self.num_hashes, dtype=tf.int64) * self.num_buckets
        return tf.cast(z, tf.int64) + first_bucket[:, tf.newaxis]


def _write(variable: tf.Variable, places: TensorLike, values: tf.Tensor) -> tf.Variable:
    """Writes values; equal places carry equal values, so their order is moot."""
    return variable.scatter_update(tf.IndexedSlices(values, places))
