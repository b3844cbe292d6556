"""Traced functions, and all that they read, as a SavedModel."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from typing import Any

import tensorflow as tf

from tfrs_negatives.index.signature_defaults import set_default
from tfrs_negatives.types import Features, Tower


class ExportedTower:
    """A query tower, traced for inference, from a dict of features.

    Args:
      tower: Function from a dict of features to embeddings `[B, d]`.
      features: Their names.
    """

    def __init__(self, tower: Tower, features: Collection[str]) -> None:
        # The tower may need autograph; our functions do without, for one-line errors.
        self._call, self._features = tf.function(tower), features

    def __call__(self, inputs: Features) -> tf.Tensor:
        """Embeddings `[B, d]`.

        Args:
          inputs: The features, and perhaps more.

        Raises:
          ValueError: The tower fails on them, or returns something else.
        """
        try:
            embeddings = self._call({name: inputs[name] for name in self._features})
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"`query_tower` fails on the features {sorted(self._features)} of "
                "`query_signature` (see the error above). A tower that takes one "
                "tensor needs a tf.TensorSpec, one that takes a dict a dict of them."
            ) from error
        if not tf.is_tensor(embeddings):
            raise ValueError(
                "`query_tower` must return one tensor of embeddings, received "
                f"{type(embeddings).__name__}."
            )
        return embeddings

    def signature(self, features: Mapping[str, tf.TensorSpec]) -> Any:
        """The concrete function from `features` to their "embeddings", float32."""

        @tf.function(autograph=False)
        def embed_query(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"embeddings": tf.cast(self(inputs), tf.float32)}

        return embed_query.get_concrete_function(**features)


def variables_of(signatures: Mapping[str, Any]) -> list[tf.Variable]:
    """All variables of traced functions.

    Tracked one by one, the variables of a tower come without the Python class of the
    tower, and without the functions that Keras would trace for it.
    """
    return [
        variable
        for function in signatures.values()
        for variable in function.graph.variables
    ]


def resources_of(query_tower: Tower) -> list[Any]:
    """Lookup tables and other resources that the tower holds, at any depth."""
    holders = [query_tower, getattr(query_tower, "__self__", None)]
    if inspect.isfunction(query_tower):
        used = inspect.getclosurevars(query_tower)
        holders += [*used.nonlocals.values(), *used.globals.values()]
    return [
        child
        for holder in holders
        if isinstance(holder, tf.__internal__.tracking.Trackable)
        for child in tf.train.TrackableView(holder).descendants()
        if isinstance(child, tf.saved_model.experimental.TrackableResource)
    ]


def save_functions(
    module: tf.Module,
    signatures: Mapping[str, Any],
    folder: str,
    defaults: Mapping[str, tf.Tensor],
) -> None:
    """Writes a SavedModel.

    Args:
      module: Tracks what the signatures read.
      signatures: Dict from name to concrete function.
      folder: Where.
      defaults: What stands in the place of inputs that requests leave out.

    Raises:
      ValueError: They use a lookup table that nothing holds.
    """
    try:
        tf.saved_model.save(
            module,
            folder,
            signatures=signatures,
            options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]),
        )
    except AssertionError as error:
        if "untracked" not in str(error):
            raise
        raise ValueError(
            "`query_tower` uses a lookup table that no Keras object or tf.Module "
            "holds. Pass the model or module that has the table as an attribute."
        ) from error
    for name, value in defaults.items():
        set_default(folder, name, value)
