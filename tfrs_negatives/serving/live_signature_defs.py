"""The signatures of an export whose items are elsewhere, as clients ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from tfrs_negatives._embedding_signature import EmbeddingSignature

if TYPE_CHECKING:
    from tfrs_negatives._saved_retrieval import SavedRetrieval


def live_signature_defs(
    model: SavedRetrieval, saved: Mapping[str, Any]
) -> dict[str, Any]:
    """TensorFlow's `SignatureDef` of each signature.

    Args:
      model: The loaded export, whose items are a live index or in shards.
      saved: Those of its SavedModel, by name.
    """
    return {
        name: _definition(name, signature)
        if isinstance(signature, EmbeddingSignature)
        else saved[name]
        for name, signature in model.signatures.items()
    }


def _definition(name: str, signature: EmbeddingSignature) -> Any:
    definition = meta_graph_pb2.SignatureDef(
        method_name="tensorflow/serving/predict",
        inputs=_infos(f"{name}_", signature.inputs),
        outputs=_infos("", signature.outputs),
    )
    for input_name, value in signature.defaults.items():
        proto = tf.make_tensor_proto(value, signature.inputs[input_name].dtype)
        definition.defaults[input_name].CopyFrom(proto)
    return definition


def _infos(prefix: str, specs: Mapping[str, tf.TensorSpec]) -> dict[str, Any]:
    return {
        name: meta_graph_pb2.TensorInfo(
            # No graph has it, and no client of a server asks for it.
            name=f"{prefix}{name}:0",
            dtype=spec.dtype.as_datatype_enum,
            tensor_shape=spec.shape.as_proto(),
        )
        for name, spec in specs.items()
    }
