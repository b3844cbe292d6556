"""One version of a model, loaded and warmed up."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfrs_negatives import _exports
from tfrs_negatives._operation_errors import cause_of
from tfrs_negatives._saved_live_retrieval import SavedLiveRetrieval
from tfrs_negatives._saved_retrieval import load_retrieval
from tfrs_negatives._saved_sharded_retrieval import SavedShardedRetrieval
from tfrs_negatives.index.shards.shard import ShardError
from tfrs_negatives.serving.live_signature_defs import live_signature_defs
from tfrs_negatives.serving.request_error import RequestError, without_folders


class ModelVersion:
    """An export that answers.

    Args:
      number: Its version.
      folder: The export.
      writable: Whether its items are to be changed, if they can be.
      shards: Where its items are, if it is a query tower; see `load_retrieval`.
      shard_seconds: How long a query waits for them.

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

    def __init__(
        self,
        number: int,
        folder: str,
        writable: bool = False,
        shards: Sequence[Any] = (),
        shard_seconds: float = 1.0,
    ) -> None:
        self.number = number
        is_live = _exports.is_live(_exports.read_description(folder))
        self.model = load_retrieval(
            folder,
            writable=writable and is_live,
            shards=shards,
            shard_seconds=shard_seconds,
        )
        # Of items whose number changes, or is that of shards, a client cannot know it.
        self.max_k: int = self.model.description.get("candidates", 0)
        self.signature_defs = _signature_defs(folder)
        if isinstance(self.model, (SavedLiveRetrieval, SavedShardedRetrieval)):
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
        # What shards have is not known.
        return self.model.description.get("index") == "BruteForce"

    def live_model(self) -> SavedLiveRetrieval:
        """The model, if its items change.

        Raises:
          RequestError: They do not.
        """
        if isinstance(self.model, SavedShardedRetrieval):
            raise RequestError(
                f"The items of version {self.number} are in shards. Ask the server of "
                "the shard that has them."
            )
        if not isinstance(self.model, SavedLiveRetrieval):
            raise RequestError(
                f"The items of version {self.number} are part of its SavedModel, and "
                "cannot be changed. Export it by `export_live_retrieval`."
            )
        return self.model

    def gauges(self) -> dict[str, int]:
        """What there is at present, by name: items, or shards."""
        if isinstance(self.model, SavedShardedRetrieval):
            search = self.model.search
            return {"shards": search.num_shards, "silent_shards": search.num_silent}
        if isinstance(self.model, SavedLiveRetrieval):
            return {"items": len(self.model.items)}
        return {"items": self.max_k}

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
            raise RequestError(cause_of(error)) from error
        except tf.errors.OpError as error:
            raise RequestError(without_folders(cause_of(error)), "INTERNAL") from error
        except UnicodeDecodeError as error:
            # Of the reason, which repeats what the client sent: TensorFlow cannot raise
            # its own error then.
            raise RequestError(
                "The model refuses the values, which hold bytes that are no UTF-8."
            ) from error
        except ValueError as error:
            if not isinstance(self.model, (SavedLiveRetrieval, SavedShardedRetrieval)):
                raise
            # A filter, say, that is none.
            raise RequestError(without_folders(str(error))) from None
        except (ConnectionError, ShardError) as error:
            raise RequestError(without_folders(str(error)), "UNAVAILABLE") from error
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
