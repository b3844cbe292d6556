"""TensorFlow Serving's gRPC protocol: PredictionService and ModelService.

Source: https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrs_negatives.serving.model_version import ModelVersion
from tfrs_negatives.serving.request_error import RequestError
from tfrs_negatives.serving.service import Service, check_names


def grpc_server(service: Service) -> grpc.aio.Server:
    """A `grpc.aio` server that answers for a model; it has no address yet.

    Args:
      service: `Service`.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", service.limits.max_request_bytes),
            ("grpc.max_send_message_length", -1),
            # Else a second server on the same port would take a part of the requests.
            ("grpc.so_reuseport", 0),
        ]
    )
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        _PredictionService(service), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(
        _ModelService(service), server
    )
    return server


def _refusing(method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Turns `RequestError` into a status."""

    @functools.wraps(method)
    async def answer(self: Any, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await method(self, request)
        except RequestError as error:
            await context.abort(grpc.StatusCode[error.code], str(error))

    return answer


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, service: Service) -> None:
        self._service = service

    @_refusing
    async def Predict(
        self,
        request: predict_pb2.PredictRequest,
        context: grpc.aio.ServicerContext | None = None,
    ) -> predict_pb2.PredictResponse:
        version = _version(self._service, request.model_spec)
        signature = request.model_spec.signature_name or "serving_default"
        specs = version.signature_inputs(signature)
        # Before any is made an array: a message can name thousands, of 32 MiB each.
        check_names(specs, request.inputs, version.defaults[signature])
        most = self._service.limits.max_request_bytes
        inputs = {
            name: _array(name, proto, specs, most)
            for name, proto in request.inputs.items()
        }
        outputs = await self._service.predict(version, signature, inputs)
        wanted = list(request.output_filter) or list(outputs)
        response = predict_pb2.PredictResponse()
        _describe(response.model_spec, self._service, version, signature)
        for name in wanted:
            if name not in outputs:
                raise RequestError(
                    f"`output_filter` may name {', '.join(sorted(outputs))}, received "
                    f"{name!r}."
                )
            response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
        return response

    @_refusing
    async def GetModelMetadata(
        self,
        request: get_model_metadata_pb2.GetModelMetadataRequest,
        context: grpc.aio.ServicerContext | None = None,
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        version = _version(self._service, request.model_spec)
        if list(request.metadata_field) != ["signature_def"]:
            raise RequestError(
                "`metadata_field` must be signature_def, received "
                f"{', '.join(request.metadata_field) or 'none'}."
            )
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _describe(response.model_spec, self._service, version, "")
        response.metadata["signature_def"].Pack(
            get_model_metadata_pb2.SignatureDefMap(signature_def=version.signature_defs)
        )
        return response


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, service: Service) -> None:
        self._service = service

    @_refusing
    async def GetModelStatus(
        self,
        request: get_model_status_pb2.GetModelStatusRequest,
        context: grpc.aio.ServicerContext | None = None,
    ) -> get_model_status_pb2.GetModelStatusResponse:
        self._service.check_name(request.model_spec.name)
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state, message in self._service.states(_number(request.model_spec)):
            status = response.model_version_status.add(
                version=number,
                state=get_model_status_pb2.ModelVersionStatus.State.Value(state),
            )
            if message:
                status.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
                status.status.error_message = message
        return response


def _version(service: Service, specification: model_pb2.ModelSpec) -> ModelVersion:
    return service.version(specification.name, _number(specification))


def _number(specification: model_pb2.ModelSpec) -> int | None:
    """The version that is asked for, or None."""
    if specification.version_label:
        raise RequestError(
            "Versions have no labels here, received version_label "
            f"{specification.version_label!r}. Leave it out."
        )
    return specification.version.value if specification.HasField("version") else None


def _describe(
    specification: model_pb2.ModelSpec,
    service: Service,
    version: ModelVersion,
    signature: str,
) -> None:
    specification.name = service.name
    specification.version.value = version.number
    specification.signature_name = signature


def _array(
    name: str,
    proto: tensor_pb2.TensorProto,
    specs: Mapping[str, tf.TensorSpec],
    most: int,
) -> np.ndarray:
    """A tensor as an array, of the dtype that the signature asks for."""
    spec = specs[name]
    if proto.dtype != spec.dtype.as_datatype_enum:
        raise RequestError(
            f"{name!r} must be {spec.dtype.name}, received {_dtype_name(proto.dtype)}."
        )
    sizes = [dimension.size for dimension in proto.tensor_shape.dim]
    # A tensor may hold one value that stands for all.
    if min(sizes, default=0) < 0 or np.prod(sizes, dtype=object) > most:
        raise RequestError(
            f"{name!r} must have at most {most} values, received shape {sizes}.",
            "RESOURCE_EXHAUSTED",
        )
    try:
        return tf.make_ndarray(proto)
    except Exception as error:  # Whatever it raises, it is the message that is wrong.
        raise RequestError(f"{name!r} is no tensor: {error}") from None


def _dtype_name(enum: int) -> str:
    try:
        return tf.as_dtype(enum).name
    except TypeError:
        return f"dtype {enum}"
