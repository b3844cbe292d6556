"""A shard in this process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._operation_errors import cause_of
from tfrs_negatives.index.shards.shard import PLAIN, ShardDescription, ShardError


class LocalShard:
    """A loaded export, asked in a thread of its own.

    Args:
      model: What `load_retrieval` returned. It stays open when the search is closed.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.name = repr(model.path)
        self._name = ""

    def open(self, name: str) -> LocalShard:
        """See `Shard`."""
        opened = LocalShard(self._model)
        opened._name = name
        return opened

    def describe(self, seconds: float) -> ShardDescription:
        """See `OpenShard`."""
        signature = self._model.signatures[PLAIN]
        if self._name not in signature.inputs:
            raise ShardError(
                f"it takes the inputs {', '.join(sorted(signature.inputs))}, and "
                f"should take {self._name}"
            )
        options = self._model.description.get("options", {})
        return ShardDescription.of(
            self._name, signature.inputs, signature.outputs, options
        )

    def ask(
        self, signature: str, inputs: Mapping[str, np.ndarray], seconds: float
    ) -> dict[str, np.ndarray]:
        """See `OpenShard`."""
        function = self._model.signatures[signature]
        tensors = {
            name: tf.constant(value, function.inputs[name].dtype)
            for name, value in inputs.items()
        }
        try:
            found = function(**tensors)
        except tf.errors.InvalidArgumentError as error:
            raise ValueError(cause_of(error)) from error
        except tf.errors.OpError as error:
            raise OSError(cause_of(error)) from error
        return {name: value.numpy() for name, value in found.items()}

    def close(self) -> None:
        """See `OpenShard`."""
