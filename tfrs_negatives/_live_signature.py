"""A signature whose items are a live index: TensorFlow embeds, the index searches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrs_negatives._saved_retrieval import SavedSignature, as_vector
from tfrs_negatives.index.popularity_scale import MAX_DISCOUNT, PopularityScale
from tfrs_negatives.types import TensorLike

if TYPE_CHECKING:
    import tensorflow as tf

    from tfrs_negatives.index.live import LiveAnswer, LiveIndex


class LiveSignature:
    """Called with keyword tensors, it answers from what the index holds then.

    Args:
      functions: Of the SavedModel: "embed_query" and perhaps "user_items".
      items: `LiveIndex`.
      description: That of the export.
      takes_exclusions: Whether it has the input `exclusions`.

    Attributes:
      inputs: Dict from name to `tf.TensorSpec`.
      outputs: The same.
      defaults: Dict from the inputs that may be left out to arrays.
    """

    def __init__(
        self,
        functions: Mapping[str, Any],
        items: LiveIndex,
        description: Mapping[str, Any],
        takes_exclusions: bool,
    ) -> None:
        import tensorflow as tf

        self._embed = SavedSignature(functions["embed_query"], description)
        self._user_items = functions.get("user_items")
        self._items, self._description = items, description
        self._ids = tf.as_dtype(description["ids"])
        self._scale = None
        if "popularity" in description:
            self._scale = PopularityScale(**description["popularity"])
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

    def _search(
        self, queries: np.ndarray, given: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        num_rows, k = len(queries), int(given["k"])
        if k < 1:
            raise ValueError(f"`k` must be at least 1, received {k}.")
        wheres = _per_row("where", given["where"], num_rows)
        exclusions = self._exclusions(given, num_rows)
        # Of a query that is NaN or infinite there is no answer; the others have theirs.
        usable = np.isfinite(queries).all(axis=1)
        queries = np.where(usable[:, np.newaxis], queries, np.float32(0))
        discounts = None
        if self._scale is not None:
            discounts = _discounts(given["popularity_discount"], num_rows)
            further = np.float32(-self._scale.scale) * discounts[:, np.newaxis]
            queries = np.concatenate([queries, further], axis=1)
        answer = self._empty(num_rows, k)
        for where in dict.fromkeys(wheres):
            rows = np.array(
                [
                    row
                    for row, (each, use) in enumerate(zip(wheres, usable, strict=True))
                    if use and each == where
                ],
                np.int64,
            )
            of_rows = None if exclusions is None else [exclusions[row] for row in rows]
            found = self._items.search(queries[rows], k, where or None, of_rows)
            _fill(answer, rows, found)
        if self._scale is not None and discounts is not None:
            centre = np.float32(self._scale.centre)
            answer["scores"] -= centre * discounts[:, np.newaxis]
        return answer

    def _exclusions(
        self, given: Mapping[str, np.ndarray], num_rows: int
    ) -> list[list[Any]] | None:
        """Ids that each row leaves out; None where no row can."""
        lists: list[list[Any]] = [[] for _ in range(num_rows)]
        if "exclude_history" in given:
            wanted = _per_row("exclude_history", given["exclude_history"], num_rows)
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

    def _empty(self, num_rows: int, k: int) -> dict[str, np.ndarray]:
        """An answer of nothing."""
        answer = {}
        for name, spec in self.outputs.items():
            dtype = spec.dtype.as_numpy_dtype
            filler: Any = b"" if dtype is object else 0
            if name == "scores":
                filler = -np.inf
            elif name == "ids" and dtype is not object:
                filler = -1
            answer[name] = np.full([num_rows, k], filler, dtype)
        return answer


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


def _fill(answer: dict[str, np.ndarray], rows: np.ndarray, found: LiveAnswer) -> None:
    """Writes what was found for some rows."""
    width = found.scores.shape[1]
    places = np.ix_(rows, np.arange(width))
    columns = {"ids": found.ids, "scores": found.scores, **found.payload}
    for name, values in columns.items():
        if values.dtype == object:
            flat = np.empty(values.size, object)
            # Half of a surrogate pair is a text in Python.
            flat[:] = [t.encode("utf-8", "surrogatepass") for t in values.flat]
            values = flat.reshape(values.shape)
        answer[name][places] = values


def _per_row(name: str, values: np.ndarray, num_rows: int) -> list[Any]:
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


def _discounts(values: np.ndarray, num_rows: int) -> np.ndarray:
    if not (np.abs(values) <= MAX_DISCOUNT).all():  # False for NaN.
        raise ValueError(
            f"`popularity_discount` must be numbers from -{MAX_DISCOUNT:,.0f} to "
            f"{MAX_DISCOUNT:,.0f}, received NaN, infinity or a larger one."
        )
    return np.array(_per_row("popularity_discount", values, num_rows), np.float32)
