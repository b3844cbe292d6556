"""One version of a model, loaded and warmed up."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfrs_negatives import _exports
from tfrs_negatives._saved_live_retrieval import SavedLiveRetrieval
from tfrs_negatives._saved_retrieval import load_retrieval
from tfrs_negatives.serving.live_signature_defs import live_signature_defs
from tfrs_negatives.serving.request_error import RequestError, without_folders


class ModelVersion:
    """An export that answers.

    Args:
      number: Its version.
      folder: The export.
      writable: Whether its items are to be changed, if they can be.

    Attributes:
      number: Its version.
      model: `SavedRetrieval`.
      max_k: The greatest k.
      inputs: Dict from signature to dict from name to `tf.TensorSpec`.
      outputs: The same of its outputs.
      defaults: Dict from signature to dict from name to array: inputs that may be left
        out.
      signature_defs: Dict from signature to TensorFlow's `SignatureDef`.

    Raises:
      ValueError, ImportError: The export cannot be loaded; see `load_retrieval`.
    """

    def __init__(self, number: int, folder: str, writable: bool = False) -> None:
        self.number = number
        is_live = _exports.is_live(_exports.read_description(folder))
        self.model = load_retrieval(folder, writable=writable and is_live)
        description = self.model.description
        self.max_k: int = description["candidates"]
        self.signature_defs = _signature_defs(folder)
        if isinstance(self.model, SavedLiveRetrieval):
            # Of items whose number changes a client cannot know it.
            self.max_k = tf.int32.max
            self.signature_defs = live_signature_defs(self.model, self.signature_defs)
        definitions = self.signature_defs.items()
        self.inputs = {name: _specs(one.inputs) for name, one in definitions}
        self.outputs = {name: _specs(one.outputs) for name, one in definitions}
        self.defaults = {
            signature: {
                name: tf.make_ndarray(value)
                for name, value in definition.defaults.items()
            }
            for signature, definition in self.signature_defs.items()
        }

    def signature_inputs(self, signature: str) -> dict[str, tf.TensorSpec]:
        """The inputs of a signature: dict from name to `tf.TensorSpec`.

        Raises:
          RequestError: There is no such signature.
        """
        try:
            return self.inputs[signature]
        except KeyError:
            raise RequestError(
                f"Expected a signature out of {', '.join(sorted(self.inputs))}, "
                f"received {signature!r}."
            ) from None

    def merges(self, signature: str) -> bool:
        """Whether rows get the same answers whatever else is in their batch.

        Excluded candidates make an approximate search look further, for all rows.
        """
        if not {"exclusions", "exclude_history"}.intersection(self.inputs[signature]):
            return True
        if isinstance(self.model, SavedLiveRetrieval):
            return self.model.items.is_exact
        return self.model.description["index"] == "BruteForce"

    def live_model(self) -> SavedLiveRetrieval:
        """The model, if its items change.

        Raises:
          RequestError: They do not.
        """
        if not isinstance(self.model, SavedLiveRetrieval):
            raise RequestError(
                f"The items of version {self.number} are part of its SavedModel, and "
                "cannot be changed. Export it by `export_live_retrieval`."
            )
        return self.model

    def num_items(self) -> int:
        """How many items there are at present."""
        if isinstance(self.model, SavedLiveRetrieval):
            return len(self.model.items)
        return self.max_k

    def follow(self) -> None:
        """Brings the items that another process has changed.

        Raises:
          ValueError, OSError: They cannot be read; those of before are kept.
        """
        if isinstance(self.model, SavedLiveRetrieval) and self.model.items.is_read_only:
            self.model.refresh()

    def run(
        self, signature: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Answers.

        Args:
          signature: One of `inputs`.
          inputs: Dict from name to array, of the dtypes and shapes of the signature.

        Returns:
          Dict from name to array.

        Raises:
          RequestError: The model refuses the values, or fails.
        """
        specs = self.inputs[signature]
        tensors = {
            name: tf.constant(value, specs[name].dtype)
            for name, value in inputs.items()
        }
        try:
            outputs = self.model.signatures[signature](**tensors)
        except tf.errors.InvalidArgumentError as error:
            raise RequestError(_cause(error)) from error
        except tf.errors.OpError as error:
            raise RequestError(without_folders(_cause(error)), "INTERNAL") from error
        except UnicodeDecodeError as error:
            # Of the reason, which repeats what the client sent: TensorFlow cannot raise
            # its own error then.
            raise RequestError(
                "The model refuses the values, which hold bytes that are no UTF-8."
            ) from error
        except ValueError as error:
            if not isinstance(self.model, SavedLiveRetrieval):
                raise
            # A filter, say, that is none.
            raise RequestError(without_folders(str(error))) from None
        return {name: output.numpy() for name, output in outputs.items()}

    def warm_up(self, max_batch: int) -> None:
        """Runs every signature, so that no client waits for what a first run makes.

        Raises:
          RequestError: The model fails.
        """
        for signature, specs in self.inputs.items():
            for rows in (1, max_batch):
                inputs = {name: _made_up(spec, rows) for name, spec in specs.items()}
                try:
                    self.run(signature, inputs)
                except RequestError as error:
                    # A tower may refuse values that are made up.
                    if error.code != "INVALID_ARGUMENT":
                        raise


def _signature_defs(folder: str) -> dict[str, Any]:
    model = saved_model_pb2.SavedModel()
    with open(os.path.join(folder, "saved_model.pb"), "rb") as file:
        model.ParseFromString(file.read())
    definitions = model.meta_graphs[0].signature_def
    # The copies do without the graph. Names with two underscores are TensorFlow's own.
    return {
        name: type(definition).FromString(definition.SerializeToString())
        for name, definition in definitions.items()
        if not name.startswith("__")
    }


def _specs(infos: Mapping[str, Any]) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec(
            tf.TensorShape(info.tensor_shape), tf.as_dtype(info.dtype), name
        )
        for name, info in infos.items()
    }


def _made_up(spec: tf.TensorSpec, rows: int) -> np.ndarray:
    if spec.shape.rank == 0:
        return np.ones([], spec.dtype.as_numpy_dtype)
    shape = [rows, *(size or 1 for size in spec.shape.as_list()[1:])]
    if spec.dtype == tf.string:
        return np.full(shape, b"", object)
    return np.zeros(shape, spec.dtype.as_numpy_dtype)


def _cause(error: Exception) -> str:
    """The line of TensorFlow's message that says what is wrong."""
    before_the_node = str(error).split("\n\t [[")[0]
    return (before_the_node.splitlines() or [type(error).__name__])[-1]
