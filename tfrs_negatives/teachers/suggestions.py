"""A table of what teachers suggest to each user, as targets that join a dataset."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfrs_negatives import _checks
from tfrs_negatives._id_columns import id_column
from tfrs_negatives.samplers.item_corpus import IdLookup
from tfrs_negatives.types import PathLike

if TYPE_CHECKING:
    from tfrs_negatives.teachers.histories import Histories

# Raised when an older tfrs_negatives could not load what this one writes.
_FORMAT = 1


class Suggestions:
    """Items and weights for each user; `teachers.blend` makes it of teachers.

    `attach` adds the rows of a batch's users to a dataset, as `target_ids` and
    `target_weights`. A table of another model's is as good: it may be attached itself,
    or be one of the teachers of `blend`.

    Memory: 8 bytes an entry, and the distinct ids.

    Args:
      user_ids: [U] distinct integers or strings, one a row.
      item_ids: [U, M] ids of items. They may repeat.
      weights: [U, M] finite and at least 0; 0 where a row has fewer items.
      vocabulary: [V] ids; `item_ids` are then places in it.

    Raises:
      ValueError: Other shapes, no columns, ids that are neither integers nor strings,
        users that repeat, weights that are negative or not finite.

    Example:
      >>> items, weights = [[3, 5], [4, 3]], [[0.7, 0.3], [1.0, 0.0]]
      >>> table = tn.teachers.Suggestions(["ann", "bob"], items, weights)
      >>> rows = tf.data.Dataset.from_tensor_slices({"user": ["bob", "eve"]}).batch(2)
      >>> batch = next(iter(table.attach(rows, "user")))
      >>> batch["target_ids"], batch["target_weights"]
      (<tf.RaggedTensor [[4], []]>, <tf.RaggedTensor [[1.0], []]>)
    """

    def __init__(
        self,
        user_ids: ArrayLike,
        item_ids: ArrayLike,
        weights: ArrayLike,
        vocabulary: ArrayLike | None = None,
    ) -> None:
        self.user_ids = id_column("user_ids", user_ids)
        items, values = np.asarray(item_ids), np.asarray(weights)
        rows = len(self.user_ids)
        if items.ndim != 2 or items.shape != values.shape or len(items) != rows:
            raise ValueError(
                "`item_ids` and `weights` must be [U, M] with a row for each of the "
                f"{rows} users, received {items.shape} and {values.shape}."
            )
        if not items.size:
            raise ValueError(
                "`item_ids` must have at least one user and one column, received "
                f"{items.shape}."
            )
        if values.dtype.kind not in "iuf":
            raise ValueError(
                f"`weights` must be numbers, received {values.dtype.name}. Are "
                "`item_ids` and `weights` swapped?"
            )
        wrong = ~(np.isfinite(values) & (values >= 0))
        if wrong.any():
            raise ValueError(
                "`weights` must be finite and at least 0, received "
                f"{wrong.sum()} others, such as {values[wrong][0]}. Shift scores, or "
                "set what is no target to 0."
            )
        if vocabulary is None:
            ids = id_column("item_ids", items.ravel())
            ids, places = np.unique(ids, return_inverse=True)
        else:
            ids, places = id_column("vocabulary", vocabulary), items.ravel()
            if (
                places.dtype.kind not in "iu"
                or not ((places >= 0) & (places < len(ids))).all()
            ):
                raise ValueError(
                    "`item_ids` must be places in `vocabulary`, from 0 to "
                    f"{len(ids) - 1}, received others."
                )
        self.weights = values.astype(np.float32)
        self.vocabulary = ids
        self._places = places.reshape(items.shape).astype(np.int32)
        self._lookup = IdLookup("user_ids", self.user_ids)

    def __len__(self) -> int:
        return len(self.user_ids)

    def __repr__(self) -> str:
        return f"Suggestions({len(self)} users, {self.weights.shape[1]} items each)"

    @property
    def item_ids(self) -> np.ndarray:
        """[U, M] ids of items."""
        return self.vocabulary[self._places]

    def __call__(
        self, histories: Histories, number: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ids and weights of the histories' users, as a teacher returns them.

        Args:
          histories: Those of n users; only who they are is looked at.
          number: How many are asked for. All are returned.

        Returns:
          `(ids, weights)`, [n, M]; weights are 0 for users that the table lacks.
        """
        rows = self._lookup("histories", histories.user_ids).numpy()
        unknown = rows == len(self)
        rows = np.where(unknown, 0, rows)
        weights = np.where(unknown[:, np.newaxis], 0, self.weights[rows])
        return self.vocabulary[self._places[rows]], weights

    # Nothing here depends on tensors' values; converting would only warn.
    @tf.autograph.experimental.do_not_convert
    def attach(
        self,
        dataset: tf.data.Dataset,
        key_feature: str,
        *,
        ids_name: str = "target_ids",
        weights_name: str = "target_weights",
        ragged: bool = True,
    ) -> tf.data.Dataset:
        """Adds the items and weights of each row's user to the batches of a dataset.

        Args:
          dataset: Yields dicts of batches.
          key_feature: Which feature has the users' ids, [B].
          ids_name, weights_name: What is added is called.
          ragged: Whether rows hold only what weighs more than 0, so that users that
            the table lacks, or knows nothing of, have an empty one. If not, rows have M
            places, and those users weights of 0 alone, which `tasks.Retrieval` refuses:
            for tables that know all users.

        Returns:
          The dataset with the features `ids_name` and `weights_name` (float32),
          `tf.RaggedTensor`s [B, (M)], or [B, M].

        Raises:
          ValueError: Elements that are not dicts, lack the feature, or have a name
            already; users' ids that are no vector, or of another kind than the table's.
        """
        if ids_name == weights_name:
            raise ValueError(
                "`ids_name` and `weights_name` must be two names, received "
                f"{ids_name!r} for both."
            )
        _checks.check_batches(dataset, key_feature, (ids_name, weights_name))
        # Pipelines run on the host; tables on the accelerator would be copied. Behind
        # the users is a row of those that are not found.
        with tf.init_scope(), tf.device("CPU:0"):
            vocabulary = tf.constant(self.vocabulary)
            places, weights = (
                tf.pad(tf.constant(table), [[0, 1], [0, 0]])
                for table in (self._places, self.weights)
            )

        def with_targets(element: dict[str, Any]) -> dict[str, Any]:
            rows = self._lookup(key_feature, element[key_feature])
            ids = tf.gather(vocabulary, tf.gather(places, rows))
            shares = tf.gather(weights, rows)
            if ragged:
                some = shares > 0
                ids = tf.ragged.boolean_mask(ids, some)
                shares = tf.ragged.boolean_mask(shares, some)
            return {**element, ids_name: ids, weights_name: shares}

        return dataset.map(with_targets, num_parallel_calls=tf.data.AUTOTUNE)

    def save(self, path: PathLike) -> None:
        """Writes the table to a file, whole or not at all.

        Args:
          path: Of a `.npz` file, which is replaced if it is there.

        Raises:
          ValueError: Another ending.
          OSError: It cannot be written.
        """
        path = os.fspath(path)
        if not path.endswith(".npz"):
            raise ValueError(f"`path` must end in .npz, received {path!r}.")
        part = f"{path[:-4]}.{os.getpid()}.part.npz"
        try:
            np.savez(
                part,
                format=_FORMAT,
                user_ids=_plain(self.user_ids),
                vocabulary=_plain(self.vocabulary),
                places=self._places,
                weights=self.weights,
            )
            os.replace(part, path)
        finally:
            if os.path.exists(part):
                os.remove(part)

    @classmethod
    def load(cls, path: PathLike) -> Suggestions:
        """Reads what `save` wrote.

        Raises:
          ValueError: Another kind of file, or of a later format.
          OSError: It cannot be read.
        """
        path = os.fspath(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in file}
        except (ValueError, EOFError, AttributeError, TypeError) as error:
            raise ValueError(_no_table(path)) from error
        names = {"format", "user_ids", "vocabulary", "places", "weights"}
        if not names <= set(found) or found["format"] != _FORMAT:
            raise ValueError(_no_table(path))
        return cls(
            found["user_ids"], found["places"], found["weights"], found["vocabulary"]
        )


def _plain(ids: np.ndarray) -> np.ndarray:
    """Ids that a file can hold without pickling."""
    return np.array(ids.tolist()) if ids.dtype == object else ids


def _no_table(path: str) -> str:
    return (
        f"Expected a file that `Suggestions.save` of format {_FORMAT} wrote, received "
        f"{path!r}. Save the table again."
    )
