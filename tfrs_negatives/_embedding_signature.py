"""A signature that TensorFlow embeds the queries of, and something else answers."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrs_negatives._saved_retrieval import SavedSignature, as_vector
from tfrs_negatives.types import TensorLike

if TYPE_CHECKING:
    import tensorflow as tf


class EmbeddingSignature(abc.ABC):
    """Called with keyword tensors, it embeds them and looks for items.

    Args:
      functions: Of the SavedModel: "embed_query" and perhaps "user_items".
      description: That of the export, with ids, payload and options.
      takes_exclusions: Whether it has the input `exclusions`.

    Attributes:
      inputs: Dict from name to `tf.TensorSpec`.
      outputs: The same.
      defaults: Dict from the inputs that may be left out to arrays.
    """

    def __init__(
        self,
        functions: Mapping[str, Any],
        description: Mapping[str, Any],
        takes_exclusions: bool,
    ) -> None:
        import tensorflow as tf

        self._embed = SavedSignature(functions["embed_query"], description)
        self._user_items = functions.get("user_items")
        self._description = description
        self._ids = tf.as_dtype(description["ids"])
        options = {
            name: np.array([value], _DTYPES[name])
            for name, value in description["options"].items()
        }
        self.inputs = {
            **self._embed.inputs,
            "k": tf.TensorSpec([], tf.int32, "k"),
            **{
                name: tf.TensorSpec([None], tf.as_dtype(_DTYPES[name]), name)
                for name in options
            },
        }
        if takes_exclusions:
            self.inputs["exclusions"] = tf.TensorSpec(
                [None, None], self._ids, "exclusions"
            )
        dtypes = {"ids": self._ids, "scores": tf.float32, **description["payload"]}
        self.outputs = {
            name: tf.TensorSpec([None, None], dtype, name)
            for name, dtype in dtypes.items()
        }
        self.defaults = {
            "k": np.array(description["k"], np.int32),
            **options,
            **self._embed.defaults,
        }

    def __call__(self, **inputs: TensorLike) -> dict[str, tf.Tensor]:
        """The best items of each row, `k` places each; see `export_live_retrieval`.

        Raises:
          ValueError: Inputs that do not fit the signature, or no filter.
        """
        import tensorflow as tf

        given = self._arrays(inputs)
        features = {name: given[name] for name in self._embed.inputs}
        queries = self._embed(**features)["embeddings"].numpy()
        found = self._search(queries, given)
        return {name: tf.constant(value) for name, value in found.items()}

    def _arrays(self, inputs: Mapping[str, TensorLike]) -> dict[str, np.ndarray]:
        """All inputs as arrays of the signature's dtypes and shapes."""
        import tensorflow as tf

        inputs = {**self.defaults, **inputs}
        check_inputs(self.inputs, inputs)
        arrays = {}
        for name, spec in self.inputs.items():
            value = inputs[name]
            if name in self._description["options"]:
                arrays[name] = as_vector(name, value, spec.dtype).numpy()
                continue
            try:
                tensor = tf.convert_to_tensor(value, spec.dtype)
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"`{name}` must be {spec.dtype.name}: {str(error).splitlines()[0]}"
                ) from error
            if not spec.shape.is_compatible_with(tensor.shape):
                raise ValueError(
                    f"`{name}` must have shape {spec.shape}, received {tensor.shape}."
                )
            arrays[name] = tensor.numpy()
        return arrays

    @abc.abstractmethod
    def _search(
        self, queries: np.ndarray, given: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The outputs as arrays.

        Args:
          queries: `[B, d]` embeddings, of which some may be NaN or infinite.
          given: All inputs by name.
        """

    def _exclusions(
        self, given: Mapping[str, np.ndarray], num_rows: int
    ) -> list[list[Any]] | None:
        """Ids that each row leaves out; None where no row can."""
        lists: list[list[Any]] = [[] for _ in range(num_rows)]
        if "exclude_history" in given:
            wanted = per_row("exclude_history", given["exclude_history"], num_rows)
            rows = [row for row, wants in enumerate(wanted) if wants]
            self._add_histories(lists, rows, given)
        elif "exclusions" not in given:
            return None
        if "exclusions" in given:
            excluded = given["exclusions"].tolist()
            if len(excluded) != num_rows:
                raise ValueError(
                    f"`exclusions` must have one row per query ({num_rows}), received "
                    f"{len(excluded)}."
                )
            for ids, more in zip(lists, excluded, strict=True):
                ids += more
        return lists

    def _add_histories(
        self, lists: list[list[Any]], rows: list[int], given: Mapping[str, np.ndarray]
    ) -> None:
        """Adds what users have to the lists of some rows."""
        feature = self._description.get("history_items")
        if feature is not None:
            brought = given[feature].tolist()
            for row in rows:
                # One row may stand for all.
                lists[row] += brought[row] if len(brought) > 1 else brought[0]
        if self._user_items is not None and rows:
            import tensorflow as tf

            feature = self._description["history_feature"]
            users = tf.constant(given[feature][rows], self.inputs[feature].dtype)
            found = self._user_items(**{feature: users})
            items, start = found["items"].numpy().tolist(), 0
            for row, count in zip(rows, found["counts"].numpy().tolist(), strict=True):
                lists[row] += items[start : start + count]
                start += count


# Of the inputs that only some exports have.
_DTYPES: dict[str, Any] = {
    "where": object,
    "popularity_discount": np.float32,
    "exclude_history": np.bool_,
}


def check_inputs(expected: Mapping[str, Any], inputs: Mapping[str, Any]) -> None:
    """Raises `ValueError` unless inputs have the names of a signature's."""
    from tfrs_negatives import _exports

    if expected.keys() != inputs.keys():
        raise ValueError(
            f"Expected the inputs {', '.join(sorted(expected))}, received "
            f"{', '.join(sorted(inputs))}.{_exports.unknown_option(inputs, expected)}"
        )


def per_row(name: str, values: np.ndarray, num_rows: int) -> list[Any]:
    """One value for each row, of which the request may have one for all."""
    if len(values) not in (1, num_rows):
        raise ValueError(
            f"`{name}` must have one value per query ({num_rows}), or one, received "
            f"{len(values)}."
        )
    plain = values.tolist() * (num_rows if len(values) == 1 else 1)
    if name != "where":
        return plain
    try:
        return [each.decode() for each in plain]
    except UnicodeDecodeError as error:
        raise ValueError(f"`where` must be UTF-8: {error}.") from None
