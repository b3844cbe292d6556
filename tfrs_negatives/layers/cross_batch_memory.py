"""A queue of recent candidates, as further negatives."""

from __future__ import annotations

import collections

import tensorflow as tf

from tfrs_negatives import _checks, distribute
from tfrs_negatives._ids import as_int64
from tfrs_negatives._keras import add_state, keras, unconverted
from tfrs_negatives._repr import described
from tfrs_negatives._sorted_keys import SortedKeys
from tfrs_negatives.types import Config, TensorLike

# embeddings: [n, d] float32; ids: [n] int64, strings as hashes; keys: [n, num_keys]
# int64; log_q: [n] float32; has_id: [n] bool; has_key: [n, num_keys] bool. Where there
# is no id or key, its value means nothing.
Entries = collections.namedtuple("Entries", "embeddings ids keys log_q has_id has_key")


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class CrossBatchMemory(keras.layers.Layer):
    """Keeps the candidates of recent batches as negatives of the present one.

    A first-in-first-out queue (cross-batch memory, Wang et al., CVPR 2020; in-batch
    negatives of earlier batches, Wang et al., SIGIR 2021): embeddings drift slowly,
    so those of a few steps ago can stand for the present ones. Each costs a row of the
    matrix product, and no run of a tower. No gradient flows into them.

    The queue holds `capacity` candidates, the present batch included: of a batch of
    B rows and a full queue come capacity - B further columns, the newest. A queue of
    just the batch size adds nothing. Pass it as `memory=` to `tasks.Retrieval`, whose
    masks treat its columns like those of the batch: each carries its id, its row's
    keys and the log q that it had. (With a `MixedLogQ` that is the log q of the batch
    alone, because the batch drew it.)

    Candidates whose embedding or log q is not finite, as after an overflow in mixed
    precision, do not enter the queue: they would make every loss NaN until they left
    it. `num_not_finite` counts them.

    State: 4 d + 9 num_keys + 13 bytes an entry. It checkpoints, and is read but not
    written when `training=False`.

    Args:
      capacity: Entries, the present batch included.
      width: d, of the embeddings.
      num_keys: How many `query_keys` the task is called with.
      warm_up_steps: Training steps before entries are used. Embeddings drift fast
        at first (the paper waits for 1,000 steps).
      report_staleness: Whether to keep a metric of this layer, the mean cosine
        distance between the embeddings of ids that occur again and what the queue
        has of them. Costs a sort of the queue's ids a step.
      name: Name of the layer.

    Attributes:
      share: float32 variable in [0, 1], the share of the queue that is used, the
        newest first; a curriculum may change it.
      num_not_finite: int64 variable, how many candidates were left out because they
        were not finite.

    Call arguments:
      embeddings: [B, d], the positives of the batch.
      ids: [B] int32, int64 or string; None where nothing compares ids. Rules on ids
        keep entries without one.
      keys: [B, num_keys] int64; None for no keys.
      log_q: [B]; None for 0.
      has_key: [B, num_keys] bool, where there is a key; None: everywhere.
      training: Whether to take the batch in.

    Returns:
      `Entries` of n <= capacity - B earlier candidates, newest first.

    Raises:
      ValueError: Options out of range; another width or number of keys.
      tf.errors.InvalidArgumentError: A batch larger than the queue.

    Reference:
      * Wang et al., "Cross-batch memory for embedding learning", CVPR 2020.
      * Wang et al., "Cross-batch negative sampling for training two-tower
        recommenders", SIGIR 2021.

    Example:
      >>> memory = tn.layers.CrossBatchMemory(capacity=3, width=1)
      >>> for x in (1.0, 2.0, 3.0, 4.0):
      ...     entries = memory(tf.constant([[x]]), training=True)
      >>> entries.embeddings.numpy().ravel()
      array([3., 2.], dtype=float32)
    """

    def __init__(
        self,
        capacity: int,
        width: int,
        num_keys: int = 0,
        warm_up_steps: int = 0,
        report_staleness: bool = False,
        name: str | None = None,
    ) -> None:
        _checks.check_at_least("capacity", capacity, 1)
        _checks.check_at_least("width", width, 1)
        _checks.check_at_least("num_keys", num_keys, 0)
        _checks.check_at_least("warm_up_steps", warm_up_steps, 0)
        super().__init__(name=name, autocast=False, dtype="float32")
        self.capacity = capacity
        self.width = width
        self.num_keys = num_keys
        self.warm_up_steps = warm_up_steps
        self.report_staleness = report_staleness
        # A task reads and writes it; nothing depends on the shape of a call.
        self.built = True

        self.share = add_state(
            self, "share", [], "float32", keras.initializers.Constant(1.0)
        )
        self._steps = add_state(self, "steps", [], "int64")
        # Entry number t, counted since the start, lies in place t mod capacity.
        self._written = add_state(self, "written", [], "int64")
        self._embeddings = add_state(self, "embeddings", [capacity, width], "float32")
        self._ids = add_state(self, "ids", [capacity], "int64")
        self._keys = add_state(self, "keys", [capacity, num_keys], "int64")
        self._log_q = add_state(self, "log_q", [capacity], "float32")
        self._has_id = add_state(self, "has_id", [capacity], "bool")
        self._has_key = add_state(self, "has_key", [capacity, num_keys], "bool")
        self.num_not_finite = add_state(self, "num_not_finite", [], "int64")
        self._staleness = None
        if report_staleness:
            self._staleness = keras.metrics.Mean(name=f"{self.name}_staleness")

    def __repr__(self) -> str:
        return described(
            self,
            capacity=self.capacity,
            width=self.width,
            num_keys=self.num_keys,
            warm_up_steps=self.warm_up_steps,
            report_staleness=self.report_staleness,
        )

    def get_config(self) -> Config:
        return {
            "name": self.name,
            "capacity": self.capacity,
            "width": self.width,
            "num_keys": self.num_keys,
            "warm_up_steps": self.warm_up_steps,
            "report_staleness": self.report_staleness,
        }

    def checked(
        self, embeddings: tf.Tensor, num_rows: int | tf.Tensor, num_keys: int
    ) -> tf.Tensor:
        """Returns `embeddings`, guarded by what `call` needs of a batch.

        Args:
          embeddings: [C, d].
          num_rows: B, scalar int32.
          num_keys: An int.

        Raises:
          ValueError, tf.errors.InvalidArgumentError: As for a call.
        """
        if num_keys != self.num_keys:
            raise ValueError(
                f"The memory keeps {self.num_keys} keys an entry, received {num_keys} "
                f"`query_keys`. Make it with `num_keys={num_keys}`."
            )
        hint = "Make the memory with the towers' embedding width."
        embeddings = _checks.check_size(
            "candidate_embeddings", embeddings, 1, self.width, hint
        )
        message = (
            f"The memory holds {self.capacity} candidates, the batch included, which "
            "must be at least a batch. Raise its `capacity`. Received rows:"
        )
        size = tf.get_static_value(num_rows)
        if size is not None and size > self.capacity:
            raise ValueError(f"{message} {size}.")
        fits = num_rows <= self.capacity
        return _checks.guard(embeddings, tf.debugging.Assert(fits, [message, num_rows]))

    @unconverted
    def call(
        self,
        embeddings: TensorLike,
        ids: TensorLike | None = None,
        keys: TensorLike | None = None,
        log_q: TensorLike | None = None,
        has_key: TensorLike | None = None,
        training: bool = False,
    ) -> Entries:
        embeddings = _checks.dense("embeddings", embeddings)
        if ids is not None:
            ids = as_int64("ids", ids)
        embeddings, ids, keys, log_q, has_key = (
            None if part is None else distribute.gather(part)
            for part in (embeddings, ids, keys, log_q, has_key)
        )
        num_rows = _checks.size(embeddings)
        num_keys = 0 if keys is None else keys.shape[1]
        embeddings = self.checked(embeddings, num_rows, num_keys)
        entries = self.read(num_rows)
        if training:
            # What was read must not see what is written now, nor a bad batch change it.
            with tf.control_dependencies([*entries, embeddings]):
                self.write(tf.identity(embeddings), ids, keys, log_q, has_key)
        return entries

    def read(self, num_rows: int | tf.Tensor) -> Entries:
        """The entries to use beside a batch of `num_rows`, those of all replicas.

        Returns:
          `Entries`, as `call`.
        """
        # Not below 0: of a batch too large it is `checked` that tells, and a graph may
        # run this first.
        room = tf.maximum(self.capacity - tf.cast(num_rows, tf.int64), 0)
        available = tf.cast(tf.minimum(self._written, room), tf.float32)
        share = tf.clip_by_value(tf.convert_to_tensor(self.share), 0.0, 1.0)
        warm = tf.cast(self._steps >= self.warm_up_steps, tf.float32)
        used = tf.cast(tf.floor(available * share * warm), tf.int64)
        places = (self._written - 1 - tf.range(used)) % self.capacity
        return Entries(*(tf.gather(part, places) for part in self._parts))

    @property
    def _parts(self) -> Entries:
        """The variables that hold the entries, in the order of `Entries`."""
        return Entries(
            self._embeddings,
            self._ids,
            self._keys,
            self._log_q,
            self._has_id,
            self._has_key,
        )

    def write(
        self,
        embeddings: tf.Tensor,
        ids: tf.Tensor | None = None,
        keys: tf.Tensor | None = None,
        log_q: tf.Tensor | None = None,
        has_key: tf.Tensor | None = None,
    ) -> None:
        """Takes a batch in: at most `capacity` rows, the same on every replica.

        Every part of an entry is written, so that none is left of the entry that was
        in its place: 0 for log q that is None.

        Raises:
          ValueError: No keys, for a memory that keeps some.
        """
        if keys is None and self.num_keys:
            raise ValueError(
                f"The memory keeps {self.num_keys} keys an entry, received none. Pass "
                "`keys`, or make it without `num_keys`."
            )
        distribute.check_in_scope(self, self._written)
        embeddings = tf.cast(tf.stop_gradient(embeddings), tf.float32)
        num_rows = tf.shape(embeddings, tf.int64)[0]
        has_id = tf.fill([num_rows], ids is not None)
        ids = tf.zeros([num_rows], tf.int64) if ids is None else as_int64("ids", ids)
        if keys is None:
            keys = tf.zeros([num_rows, 0], tf.int64)
        if has_key is None:
            has_key = tf.ones_like(keys, tf.bool)
        log_q = tf.zeros([num_rows]) if log_q is None else tf.cast(log_q, tf.float32)
        is_finite = tf.reduce_all(tf.math.is_finite(embeddings), axis=1)
        is_finite &= tf.math.is_finite(log_q)
        entries = Entries(embeddings, ids, keys, log_q, has_id, has_key)
        places, entries, num_finite = self._in_place(entries, is_finite)
        metric, staleness = self._staleness, None
        if metric is not None:
            distances, found = self.staleness(ids, embeddings)
            counts = tf.cast(has_id & is_finite, tf.float32) * found
            staleness = tf.math.multiply_no_nan(distances, counts), counts
        # When all is there that is written: what fails before has changed nothing.
        with tf.control_dependencies(
            [*entries, *([] if staleness is None else staleness)]
        ):
            if metric is not None and staleness is not None:
                metric.update_state(*staleness)
            for state, values in zip(self._parts, entries, strict=True):
                state.scatter_update(tf.IndexedSlices(values, places))
            self._written.assign_add(num_finite)
            self.num_not_finite.assign_add(num_rows - num_finite)
            self._steps.assign_add(1)

    def _in_place(
        self, entries: Entries, is_finite: tf.Tensor
    ) -> tuple[tf.Tensor, Entries, tf.Tensor]:
        """Places [n], what they are to hold, and how many of these are new.

        New are the entries that are finite, in their order, and come first. The places
        of the others keep what they hold, so that shapes do not depend on values, which
        XLA could not compile.
        """
        num_rows = tf.size(is_finite, tf.int64)
        num_finite = tf.math.count_nonzero(is_finite)
        order = tf.argsort(tf.cast(~is_finite, tf.int32), stable=True)
        places = (self._written + tf.range(num_rows)) % self.capacity
        is_new = tf.range(num_rows) < num_finite
        placed = []
        for state, values in zip(self._parts, entries, strict=True):
            values = tf.gather(tf.stop_gradient(values), order)
            shape = tf.concat([[-1], tf.ones([values.shape.rank - 1], tf.int32)], 0)
            placed.append(
                tf.where(tf.reshape(is_new, shape), values, tf.gather(state, places))
            )
        return places, Entries(*placed), num_finite

    def staleness(
        self, ids: TensorLike, embeddings: TensorLike
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """How far the queue's embeddings are from fresh ones of the same ids.

        Args:
          ids: [n], integers or strings.
          embeddings: [n, d], encoded now.

        Returns:
          `(distances, found)`, [n] float32 both: the cosine distance to the newest
          entry with the id, and 1, or 0 where the queue has no such entry.
        """
        written = tf.minimum(self._written, self.capacity)
        # From the oldest to the newest, so that the last of equal ids is the newest.
        places = (self._written - written + tf.range(written)) % self.capacity
        by_id = SortedKeys(
            tf.gather(self._ids, places), tf.gather(self._has_id, places)
        )
        first, last = by_id.ranges(as_int64("ids", ids))
        found = first < last
        # An entry more than there are, so that an empty queue can be looked into.
        places = tf.concat([tf.gather(places, by_id.order), [0]], axis=0)
        places = tf.gather(places, tf.where(found, last - 1, 0))
        similarity = tf.reduce_sum(
            tf.math.l2_normalize(tf.gather(self._embeddings, places), axis=1)
            * tf.math.l2_normalize(tf.cast(embeddings, tf.float32), axis=1),
            axis=1,
        )
        found = tf.cast(found, tf.float32)
        return (1 - similarity) * found, found
