"""Default values of a SavedModel's inputs, which clients may then leave out.

`tf.saved_model.save` writes them only for functions whose Python signature has them,
and the features of ours have names that are not known before. TensorFlow Serving reads
them from `SignatureDef.defaults`.
"""

from __future__ import annotations

import os

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2


def set_default(folder: str, name: str, value: tf.Tensor) -> None:
    """Gives the input `name` of all signatures that have it a default.

    Args:
      folder: A SavedModel.
      name: Name of the input.
      value: Tensor.
    """
    path = os.path.join(folder, "saved_model.pb")
    model = saved_model_pb2.SavedModel()
    with open(path, "rb") as file:
        model.ParseFromString(file.read())
    for definition in model.meta_graphs[0].signature_def.values():
        if name in definition.inputs:
            definition.defaults[name].CopyFrom(tf.make_tensor_proto(value))
    with open(path, "wb") as file:
        file.write(model.SerializeToString(deterministic=True))
