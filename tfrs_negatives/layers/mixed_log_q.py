"""log q of a mixture of sources of negatives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import tensorflow as tf

from tfrs_negatives import _checks, distribute
from tfrs_negatives._keras import converted, keras, unconverted
from tfrs_negatives._repr import described
from tfrs_negatives.types import Config, LogQSource, TensorLike


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class MixedLogQ(keras.layers.Layer):
    """Corrects every column by the mixture that the columns were drawn from.

    With B columns from the batch (probability q_0 a draw) and K from a uniform
    sampler (u = 1/N), a column holding item j, in either block, was drawn with

        Q*(j) = (B q_0(j) + K u) / (B + K),

    and further sources add their terms in the same way (mixed negative sampling, Yang
    et al., WWW 2020, who state the ratio B : K). To correct each block by its own
    source has the same limit and more noise; the mixture is the balance heuristic of
    multiple importance sampling (Veach & Guibas, SIGGRAPH 1995). To correct both blocks
    by the batch's q is biased.

    Args:
      sources: One source for each block of columns, the batch first. A source is
        a layer giving log q for ids (`StreamingFrequency`, `StaticFrequency`) or
        the `log_q` of a sampler, a number when it is uniform.
      sizes: Numbers of columns of the blocks after the first; one of them may be None,
        a block that has what the others leave, such as one whose size changes. None
        with two sources: all columns that are not the batch's.
      name: Name of the layer.

    Call arguments:
      ids: [n] int32, int64 or string.
      num_positives: B, how many leading ids are the batch's own; the first
        source alone learns from them. None: all.
      num_columns: C, how many leading ids are columns, whose numbers weigh the
        mixture; ids after them are only looked up. None: all.
      training: Whether the first source learns.

    Returns:
      [n] float32, log Q*, finite. What a sampler never draws adds nothing to it; an
      id that no source draws, so that it is no column, has the sources' floors.

    Raises:
      ValueError: No source, a number above 0, sizes that do not match the
        sources.
      tf.errors.InvalidArgumentError: Sizes that do not add up to the columns.

    Reference:
      * Yang et al., "Mixed negative sampling for learning two-tower neural
        networks in recommendations", WWW 2020.
      * Veach and Guibas, "Optimally combining sampling techniques for Monte Carlo
        rendering", SIGGRAPH 1995.

    Example:
      >>> counts = tn.layers.StaticFrequency({"tea": 3, "milk": 1})
      >>> uniform = tn.samplers.Uniform(["tea", "milk", "jam", "ham"])
      >>> mixed = tn.layers.MixedLogQ([counts, uniform.log_q])
      >>> ids = tf.constant(["tea", "milk", "milk", "tea"])  # The last two are drawn.
      >>> np.exp(mixed(ids, num_positives=2)).round(3).tolist()
      [0.5, 0.25, 0.25, 0.5]
    """

    def __init__(
        self,
        sources: Iterable[LogQSource],
        sizes: Sequence[int | None] | None = None,
        name: str | None = None,
    ) -> None:
        sources = list(sources)
        if len(sources) < 2 or (sizes is None and len(sources) != 2):
            raise ValueError(
                "`MixedLogQ` mixes the batch's log q with those of samplers: expected "
                f"two sources, or more and their `sizes`, received {len(sources)}."
            )
        if sizes is not None and len(sizes) != len(sources) - 1:
            raise ValueError(
                "`sizes` holds the numbers of columns of the sources after the "
                f"first: expected {len(sources) - 1}, received {len(sizes)}."
            )
        if sizes is not None and list(sizes).count(None) > 1:
            raise ValueError(
                f"`sizes` leaves what is left to one block: received {list(sizes)}. "
                "Give the numbers of columns of the others."
            )
        for source in sources:
            if isinstance(source, (int, float)) and not source <= 0:
                raise ValueError(
                    f"A constant source is a log probability: expected at most 0, "
                    f"received {source}. Pass log q, not q."
                )
        super().__init__(name=name, autocast=False, dtype="float32")
        self.sources = sources
        for place, source in enumerate(sources):
            # Under Keras 3 TensorFlow's checkpoints follow attributes, not lists.
            if isinstance(source, keras.layers.Layer):
                setattr(self, f"_source_{place}", source)
        self.sizes = sizes
        # Nothing depends on the shapes of a call, and what it holds neither.
        self.built = True

    def __repr__(self) -> str:
        return described(self, sources=self.sources, sizes=self.sizes)

    def get_config(self) -> Config:
        return {
            "name": self.name,
            "sources": serialized(self.sources),
            "sizes": self.sizes,
        }

    @classmethod
    def from_config(cls, config: Config) -> MixedLogQ:
        return cls(**{**config, "sources": deserialized(config["sources"])})

    @unconverted
    def call(
        self,
        ids: TensorLike,
        num_positives: int | tf.Tensor | None = None,
        num_columns: int | tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        ids = tf.convert_to_tensor(ids)
        if num_columns is None:
            num_columns = _checks.size(ids)
        if num_positives is None:
            num_positives = num_columns
        num_others = num_columns - num_positives
        sizes = [num_others] if self.sizes is None else list(self.sizes)
        known = sum(size for size in sizes if size is not None)
        if None in sizes:
            sizes[sizes.index(None)] = num_others - known
            is_right = tf.debugging.assert_less_equal(
                known,
                num_others,
                "`sizes` must leave columns to the block without one.",
            )
            num_columns = _checks.guard(num_columns, is_right)
        elif self.sizes is not None:
            num_columns = _checks.guard(
                num_columns,
                tf.debugging.assert_equal(
                    num_others,
                    known,
                    message="`sizes` must add up to the columns beyond the batch.",
                ),
            )
        sizes = [num_positives, *sizes]
        floors: list[float | tf.Tensor | None] = []
        log_q, log_sizes = [], []
        for index, (source, size) in enumerate(zip(self.sources, sizes, strict=True)):
            if index == 0 and not isinstance(source, (int, float)):
                log_q.append(
                    source(ids, num_positives=num_positives, training=training)
                )
                floors.append(None)
            else:
                log_q.append(drawn_log_q(source, ids, num_positives))
                floors.append(getattr(source, "floor", None))
            size = distribute.total(tf.cast(size, tf.float32))
            log_sizes.append(tf.math.log(size))
        total = tf.math.log(distribute.total(tf.cast(num_columns, tf.float32)))
        log_sizes = tf.stack(log_sizes)
        mixed = log_mixture(log_q, log_sizes)
        return with_floor(mixed, log_floor(floors, log_sizes)) - total

    def batch_log_q(self, ids: TensorLike) -> tf.Tensor:
        """log q_0 of ids, [n] float32: that of the batch's own columns, unmixed.

        What a memory of the batch's positives keeps, since no sampler draws from it.
        """
        source, ids = self.sources[0], tf.convert_to_tensor(ids)
        if isinstance(source, (int, float)):
            return drawn_log_q(source, ids)
        return source(ids, training=False)


def drawn_log_q(
    source: LogQSource, ids: tf.Tensor, num_positives: int | tf.Tensor | None = None
) -> tf.Tensor:
    """log q of ids [n] from a source of a mixture, -inf where it never draws them.

    Layers that give such ids a floor when called, so that it can be divided by, have a
    method `drawn_log_q` and that `floor`. In a sum over sources the floor would be
    probability that the mixture does not have. What is drawn for the batch's positives,
    as a layer's `depends_on_positives` says, is told how many ids these are.
    """
    if isinstance(source, (int, float)):
        return tf.fill(tf.shape(ids), tf.constant(source, tf.float32))
    if getattr(source, "depends_on_positives", False):
        return converted(source.drawn_log_q)(ids, num_positives)
    if hasattr(source, "drawn_log_q"):
        return converted(source.drawn_log_q)(ids)
    return source(ids, training=False)


def log_mixture(log_q: Sequence[tf.Tensor], log_weights: tf.Tensor) -> tf.Tensor:
    """log sum_c w_c q_c: [n], from log q [n] of each of S sources and [S]."""
    return tf.reduce_logsumexp(tf.stack(log_q) + log_weights[:, tf.newaxis], axis=0)


def log_floor(
    floors: Sequence[float | tf.Tensor | None], log_weights: tf.Tensor
) -> tf.Tensor | None:
    """The same mixture of the sources' floors, None for those that have none.

    Returns:
      A scalar, or None if no source has one.
    """
    if all(floor is None for floor in floors):
        return None
    floors = [-float("inf") if floor is None else floor for floor in floors]
    return tf.reduce_logsumexp(tf.stack(floors) + log_weights)


def with_floor(log_q: tf.Tensor, floor: tf.Tensor | None) -> tf.Tensor:
    """`log_q`, with the floor, if there is one, where it is -inf."""
    return log_q if floor is None else tf.where(log_q > -float("inf"), log_q, floor)


def serialized(sources: Sequence[LogQSource]) -> list[Any]:
    """Sources of log q, numbers and layers, for a config."""
    return [
        source
        if isinstance(source, (int, float))
        else keras.utils.serialize_keras_object(source)
        for source in sources
    ]


def deserialized(sources: Sequence[Any]) -> list[LogQSource]:
    """The reverse of `serialized`."""
    return [
        source
        if isinstance(source, (int, float))
        else keras.utils.deserialize_keras_object(source)
        for source in sources
    ]
