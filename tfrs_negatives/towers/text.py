"""A column of text, as a feature."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tfrs_negatives._feature_columns import missing
from tfrs_negatives._keras import keras, unconverted
from tfrs_negatives.towers.feature import Feature, embedding
from tfrs_negatives.towers.pooling import mean_of_rows
from tfrs_negatives.types import Config, TensorLike

# What is neither a letter nor a digit of any script.
_SEPARATORS = r"[^\p{L}\p{N}]+"


@keras.utils.register_keras_serializable(package="tfrs_negatives")
class Text(Feature):
    """The mean of the embeddings of a text's words and of its runs of words.

    A text is lowered and cut at what is neither letter nor digit. Its n-grams, runs of
    up to `ngrams` words, are hashed into `num_buckets` (Weinberger et al., "Feature
    Hashing for Large Scale Multitask Learning", ICML 2009), so no vocabulary is kept
    and new words need none. Words that share a bucket share an embedding.

    A missing text ("" or no words) has an embedding of its own, zeros until it is
    trained.

    Args:
      column: Name of the column.
      ngrams: How many words a run has at the most.
      num_buckets: How many embeddings there are. A few times the distinct n-grams, so
        that few share one.
      dim, name: See `Feature`.

    Raises:
      ValueError: In `adapt`: no strings.

    Example:
      >>> title = tn.towers.Text("title", dim=4).adapt(["Toy Story", "Heat"])
      >>> title(tf.constant(["toy story", "Alien"])).shape
      TensorShape([2, 4])
    """

    def __init__(
        self,
        column: str,
        ngrams: int = 2,
        num_buckets: int = 20_000,
        dim: int | None = None,
        name: str | None = None,
    ) -> None:
        for argument, value in (("ngrams", ngrams), ("num_buckets", num_buckets)):
            if value < 1:
                raise ValueError(
                    f"`{argument}` must be at least 1, received {value!r}."
                )
        super().__init__(column, dim, name)
        self.ngrams = ngrams
        self.num_buckets = num_buckets
        self._hash = keras.layers.Hashing(num_buckets)

    def _options(self) -> Config:
        return {
            **super()._options(),
            "ngrams": self.ngrams,
            "num_buckets": self.num_buckets,
        }

    def _learn(self, values: np.ndarray) -> str:
        texts = values[~missing(values)]
        if len(texts) and texts.dtype.kind != "O":
            raise ValueError(
                f"{self.column!r} must hold strings for `towers.Text`, received "
                "numbers. Use `towers.Numeric` or `towers.Categorical`."
            )
        if not len(texts):
            return "no text"
        words = np.mean([len(text.split()) for text in texts])
        return f"text of {words:.1f} words"

    def _make(self, dim: int) -> None:
        # Row 0 is a missing text's.
        self.embeddings = embedding(1 + self.num_buckets, dim, num_zero=1)

    @unconverted
    def call(self, values: TensorLike, training: bool = False) -> tf.Tensor:
        numbers = self.numbers(values)
        vectors = numbers.with_flat_values(self.embeddings(numbers.flat_values))
        return mean_of_rows(vectors)

    def numbers(self, values: TensorLike) -> tf.RaggedTensor:
        """Rows of the table for each text, ragged [B, (n-grams)] int64; 0: none."""
        values = self._as_kind(values)
        if values.dtype != tf.string:  # The column that was adapted was all missing.
            grams = tf.RaggedTensor.from_row_lengths(
                tf.zeros([0], tf.string), tf.zeros(tf.shape(values), tf.int64)
            )
        else:
            values = tf.strings.lower(values, encoding="utf-8")
            values = tf.strings.regex_replace(values, _SEPARATORS, " ")
            words = tf.strings.split(tf.strings.strip(values))
            grams = tf.strings.ngrams(words, list(range(1, self.ngrams + 1)))
        hashed = 1 + tf.cast(self._hash(grams.flat_values), tf.int64)
        numbers = grams.with_flat_values(hashed)
        is_empty = tf.cast(numbers.row_lengths() == 0, numbers.row_splits.dtype)
        alone = tf.RaggedTensor.from_row_lengths(
            tf.zeros([tf.reduce_sum(is_empty)], tf.int64), is_empty
        )
        return tf.concat([numbers, alone], axis=1)
