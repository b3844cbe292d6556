"""Making a model's variables without data, from what it was trained on."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import struct_pb2
from tensorflow.python.framework import func_graph
from tensorflow.python.saved_model import nested_structure_coder

from tfrs_negatives.types import Config, KerasModel


def specs_of(features: Any) -> Any:
    """The `tf.TypeSpec`s of a batch of any size; None where one is none of a tensor's.

    Args:
      features: Nested tensors, ragged and sparse ones too, or their specs.
    """

    def spec_of(value: Any) -> tf.TypeSpec | None:
        if value is None:
            return None
        if not isinstance(value, tf.TypeSpec):
            value = tf.type_spec_from_value(value)
        shape = value.shape
        if shape.rank:
            shape = tf.TensorShape([None, *shape[1:]])
        if isinstance(value, tf.TensorSpec):
            return tf.TensorSpec(shape, value.dtype)
        if isinstance(value, tf.RaggedTensorSpec):
            return tf.RaggedTensorSpec(
                shape, value.dtype, value.ragged_rank, value.row_splits_dtype
            )
        if isinstance(value, tf.SparseTensorSpec):
            return tf.SparseTensorSpec(shape, value.dtype)
        raise TypeError(value)

    try:
        return tf.nest.map_structure(spec_of, features)
    except (AttributeError, TypeError, ValueError):
        return None


def to_config(specs: Any) -> Config:
    """Specs as what JSON holds."""
    return json_format.MessageToDict(nested_structure_coder.encode_structure(specs))


def from_config(config: Config) -> Any:
    """The reverse of `to_config`."""
    message = json_format.ParseDict(config, struct_pb2.StructuredValue())
    return nested_structure_coder.decode_proto(message)


def trace(model: KerasModel, specs: Any, training: bool) -> None:
    """Makes all variables that `compute_loss` uses, and changes no state.

    Args:
      model: A `models.Model`.
      specs: What `compute_loss` is given, as `specs_of` returns them.
      training: Its second argument.
    """

    def run(features: Any) -> Any:
        def compute_loss(features: Any) -> tf.Tensor:
            return model.compute_loss(features, training=training)

        return model.distribute_strategy.run(compute_loss, args=(features,))

    # A `tf.function` would leave variables of several replicas without their values.
    with model.distribute_strategy.scope():
        func_graph.func_graph_from_py_func("compute_loss", run, (specs,), {})
