"""TensorFlow Serving's gRPC protocol: PredictionService and ModelService.

Source: https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
)

from tfrs_negatives.serving.bytes_in_flight import Hold
from tfrs_negatives.serving.model_version import ModelVersion
from tfrs_negatives.serving.request_error import RequestError
from tfrs_negatives.serving.server_limits import Limits
from tfrs_negatives.serving.service import Service, check_names
from tfrs_negatives.serving.wire_fields import has_more_fields

_log = logging.getLogger(__name__)

_Message = TypeVar("_Message", bound=Message)

# From a message, whose bytes the other argument holds, to the one that answers it.
_Answer: TypeAlias = Callable[[bytes, Hold], Awaitable[bytes]]

# Milliseconds of a handshake, of silence, and of a connection, after which its requests
# have so many more: a message that is never sent to its end ends then. Clients connect
# again by themselves.
_HANDSHAKE_MS, _IDLE_MS, _AGE_MS, _AGE_GRACE_MS = 10_000, 300_000, 300_000, 10_000

# At the top of a message: inputs and names in `output_filter`.
_MOST_FIELDS = 1000

# TensorFlow's tensors have fewer dimensions.
_MOST_DIMENSIONS = 254

# How many a value of a complex dtype takes in its field.
_FIELDS_OF_A_VALUE = {"scomplex_val": 2, "dcomplex_val": 2}


def grpc_server(service: Service) -> grpc.aio.Server:
    """A `grpc.aio` server that answers for a model; it has no address yet.

    Args:
      service: `Service`.
    """
    limits = service.limits
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", limits.max_request_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_allowed_incoming_connections", limits.max_connections),
            ("grpc.max_connection_idle_ms", _IDLE_MS),
            ("grpc.max_connection_age_ms", _AGE_MS),
            ("grpc.max_connection_age_grace_ms", _AGE_GRACE_MS),
            ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
            # Else a second server on the same port would take a part of the requests.
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=limits.max_connections,
    )
    services: dict[str, dict[str, _Answer]] = {
        "PredictionService": {
            "Predict": _Predict(service),
            "GetModelMetadata": _GetModelMetadata(service),
        },
        "ModelService": {"GetModelStatus": _GetModelStatus(service)},
    }
    for name, methods in services.items():
        handlers = {
            method: _handler(service, answer) for method, answer in methods.items()
        }
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    f"tensorflow.serving.{name}", handlers
                )
            ]
        )
    return server


def _handler(service: Service, answer: _Answer) -> grpc.RpcMethodHandler:
    """What gRPC calls for a method, of bytes: ours are (de)serialised off its loop."""

    async def handle(message: bytes, context: grpc.aio.ServicerContext) -> bytes | None:
        try:
            with service.bytes_in_flight.hold() as hold:
                hold.add(len(message))
                return await answer(message, hold)
        except RequestError as error:
            code, details = grpc.StatusCode[error.code], str(error)
        except Exception:
            _log.exception("a request failed")
            code, details = grpc.StatusCode.INTERNAL, "internal error"
        await context.abort(code, details)
        return None

    return grpc.unary_unary_rpc_method_handler(handle)


def _parsed(kind: Callable[[], _Message], message: bytes) -> _Message:
    """A message from its bytes."""
    # A field has two bytes or more.
    if len(message) > 2 * _MOST_FIELDS and has_more_fields(message, _MOST_FIELDS):
        raise RequestError(
            f"A message may have {_MOST_FIELDS} fields, inputs among them, received "
            "more.",
            "RESOURCE_EXHAUSTED",
        )
    parsed = kind()
    try:
        parsed.ParseFromString(message)
    except DecodeError:
        raise RequestError(
            f"Expected a {parsed.DESCRIPTOR.full_name}, received bytes that are none.",
            "INTERNAL",
        ) from None
    return parsed


class _Predict:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, message: bytes, hold: Hold) -> bytes:
        version, signature, wanted, inputs = await self._service.convert(
            len(message), self._read, message
        )
        outputs = await self._service.predict(version, signature, inputs)
        outputs = {name: outputs[name] for name in wanted or outputs}
        size = sum(output.size for output in outputs.values())
        answer = await self._service.convert(
            size, self._write, version, signature, outputs
        )
        hold.add(len(answer))
        return answer

    def _read(
        self, message: bytes
    ) -> tuple[ModelVersion, str, list[str], dict[str, np.ndarray]]:
        limits = self._service.limits
        request = _parsed(predict_pb2.PredictRequest, message)
        version = _version(self._service, request.model_spec)
        signature = request.model_spec.signature_name or "serving_default"
        specs = version.signature_inputs(signature)
        # Before any is made an array: a message can name thousands, of 32 MiB each.
        check_names(specs, request.inputs, version.defaults[signature])
        wanted = _wanted(request.output_filter, version.outputs[signature])
        sizes = {
            name: _size(name, proto, specs, limits)
            for name, proto in request.inputs.items()
        }
        limits.check_values(sum(sizes.values()))
        inputs = {name: _array(name, request.inputs[name]) for name in sizes}
        return version, signature, wanted, inputs

    def _write(
        self, version: ModelVersion, signature: str, outputs: dict[str, np.ndarray]
    ) -> bytes:
        response = predict_pb2.PredictResponse()
        _describe(response.model_spec, self._service, version, signature)
        for name, output in outputs.items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(output))
        return response.SerializeToString()


class _GetModelMetadata:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, message: bytes, hold: Hold) -> bytes:
        return await self._service.convert(len(message), self._answer, message)

    def _answer(self, message: bytes) -> bytes:
        request = _parsed(get_model_metadata_pb2.GetModelMetadataRequest, message)
        version = _version(self._service, request.model_spec)
        fields = request.metadata_field[:9]
        if list(fields) != ["signature_def"]:
            raise RequestError(
                "`metadata_field` must be signature_def, received "
                f"{', '.join(fields) or 'none'}."
            )
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _describe(response.model_spec, self._service, version, "")
        response.metadata["signature_def"].Pack(
            get_model_metadata_pb2.SignatureDefMap(signature_def=version.signature_defs)
        )
        return response.SerializeToString()


class _GetModelStatus:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, message: bytes, hold: Hold) -> bytes:
        return await self._service.convert(len(message), self._answer, message)

    def _answer(self, message: bytes) -> bytes:
        request = _parsed(get_model_status_pb2.GetModelStatusRequest, message)
        self._service.check_name(request.model_spec.name)
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state, text in self._service.states(_number(request.model_spec)):
            status = response.model_version_status.add(
                version=number,
                state=get_model_status_pb2.ModelVersionStatus.State.Value(state),
            )
            if text:
                status.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
                status.status.error_message = text
        return response.SerializeToString()


def _wanted(output_filter: Sequence[str], outputs: Sequence[str]) -> list[str]:
    """The outputs that are asked for, none twice; an empty list stands for all."""
    expected = f"`output_filter` may name {', '.join(sorted(outputs))}"
    if len(output_filter) > len(outputs):
        raise RequestError(f"{expected}, received {len(output_filter)} names.")
    wanted = list(output_filter)
    for name in wanted:
        if name not in outputs:
            raise RequestError(f"{expected}, received {name!r}.")
        if wanted.count(name) > 1:
            raise RequestError(f"{expected}, each once, received {name!r} again.")
    return wanted


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


def _size(
    name: str,
    proto: tensor_pb2.TensorProto,
    specs: Mapping[str, tf.TensorSpec],
    limits: Limits,
) -> int:
    """The number of values of a tensor, which is found to have the signature's dtype.

    A tensor may hold one value that stands for all, so its bytes say nothing.
    """
    spec = specs[name]
    if proto.dtype != spec.dtype.as_datatype_enum:
        raise RequestError(
            f"{name!r} must be {spec.dtype.name}, received {_dtype_name(proto.dtype)}."
        )
    dimensions = proto.tensor_shape.dim
    if len(dimensions) > _MOST_DIMENSIONS:
        raise RequestError(
            f"{name!r} must have shape {spec.shape}, received one of "
            f"{len(dimensions)} dimensions."
        )
    sizes = [dimension.size for dimension in dimensions]
    size, most = math.prod(sizes), min(limits.max_values, limits.max_request_bytes)
    if min(sizes, default=0) < 0 or size > most:
        raise RequestError(
            f"{name!r} must have at most {most} values, received shape {sizes}.",
            "RESOURCE_EXHAUSTED",
        )
    for field, values in proto.ListFields():
        held = len(values) if field.name.endswith("_val") else 0
        if held > size * _FIELDS_OF_A_VALUE.get(field.name, 1):
            raise RequestError(
                f"{name!r} of shape {tuple(sizes)} must have {size} values, received "
                f"{held}."
            )
    return size


def _array(name: str, proto: tensor_pb2.TensorProto) -> np.ndarray:
    try:
        return tf.make_ndarray(proto)
    except Exception as error:  # Whatever it raises, it is the message that is wrong.
        raise RequestError(f"{name!r} is no tensor: {error}") from None


def _dtype_name(enum: int) -> str:
    try:
        return tf.as_dtype(enum).name
    except TypeError:
        return f"dtype {enum}"
