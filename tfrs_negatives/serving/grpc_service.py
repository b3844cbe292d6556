"""TensorFlow Serving's gRPC protocol: PredictionService and ModelService.

Source: https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import math
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import TypeAlias, TypeVar

import grpc
import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health as grpc_health
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
)

from tfrs_negatives.serving import request_id
from tfrs_negatives.serving.bearer_tokens import AdminToken, QueryToken
from tfrs_negatives.serving.bytes_in_flight import Hold
from tfrs_negatives.serving.model_version import ModelVersion
from tfrs_negatives.serving.request_error import RequestError, without_folders
from tfrs_negatives.serving.server_limits import Limits
from tfrs_negatives.serving.service import Service, check_names
from tfrs_negatives.serving.version_policy import VersionPolicy
from tfrs_negatives.serving.wire_fields import has_more_fields

_log = logging.getLogger(__name__)

_Message = TypeVar("_Message", bound=Message)

# From a message, whose bytes the other argument holds, to the one that answers it.
_Answer: TypeAlias = Callable[[bytes, Hold], Awaitable[bytes]]

# What a client must name.
_Token: TypeAlias = AdminToken | QueryToken | None

# Milliseconds of a handshake, of silence, and of a connection, after which its requests
# have so many more: a message that is never sent to its end ends then. Clients connect
# again by themselves.
_HANDSHAKE_MS, _IDLE_MS, _AGE_MS, _AGE_GRACE_MS = 10_000, 300_000, 300_000, 10_000

# At the top of a message: inputs and names in `output_filter`.
_MOST_FIELDS = 1000

# TensorFlow's tensors have fewer dimensions.
_MOST_DIMENSIONS = 254

# By dtype, the field of a tensor's message that TensorFlow Serving fills. TensorFlow's
# own function would pack numbers into bytes, which its published clients do not read.
_FIELDS = {
    "float32": "float_val",
    "float64": "double_val",
    "int32": "int_val",
    "int64": "int64_val",
    "bool": "bool_val",
}

# How many a value of a complex dtype takes in its field.
_FIELDS_OF_A_VALUE = {"scomplex_val": 2, "dcomplex_val": 2}


# That a client may ask to be served.
_MOST_VERSIONS = 100

# Of the health service: all, and each service by its name.
_HEALTHY = "", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService"


async def grpc_server(
    service: Service, reloads: bool = False
) -> tuple[grpc.aio.Server, grpc_health.aio.HealthServicer]:
    """A `grpc.aio` server that answers for a model; it has no address yet.

    Args:
      service: `Service`.
      reloads: Whether clients may change which versions are served.

    Returns:
      The server, and its health service.
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
    asker = service.query_token
    services: dict[str, dict[str, tuple[_Answer, _Token]]] = {
        "PredictionService": {
            "Predict": (_Predict(service), asker),
            "GetModelMetadata": (_GetModelMetadata(service), asker),
        },
        # What probes ask.
        "ModelService": {"GetModelStatus": (_GetModelStatus(service), None)},
    }
    if reloads:
        reload = _HandleReloadConfigRequest(service), service.admin_token or asker
        services["ModelService"]["HandleReloadConfigRequest"] = reload
    for name, methods in services.items():
        handlers = {
            method: _handler(
                service, f"tensorflow.serving.{name}/{method}", answer, token
            )
            for method, (answer, token) in methods.items()
        }
        server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    f"tensorflow.serving.{name}", handlers
                )
            ]
        )
    health = grpc_health.aio.HealthServicer()
    for name in _HEALTHY:
        await health.set(name, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    return server, health


def _handler(
    service: Service, path: str, answer: _Answer, token: _Token
) -> grpc.RpcMethodHandler:
    """What gRPC calls for a method, of bytes: ours are (de)serialised off its loop."""

    async def handle(message: bytes, context: grpc.aio.ServicerContext) -> bytes | None:
        start = time.perf_counter()
        named = request_id.request_id_of(_metadata(context, request_id.FIELD))
        # The task is that of this request alone.
        request_id.current.set(named)
        context.set_trailing_metadata(((request_id.FIELD, named),))

        def note(code: str) -> None:
            seconds = time.perf_counter() - start
            service.monitoring.note("GRPC", code, seconds, "", path, context.peer())

        try:
            if token is not None:
                token.check(_metadata(context, "authorization"))
            with service.bytes_in_flight.hold() as hold:
                hold.add(len(message))
                answered = await answer(message, hold)
            note("OK")
            return answered
        except RequestError as error:
            code, details = grpc.StatusCode[error.code], str(error)
        except Exception:
            _log.exception("a request failed")
            code, details = grpc.StatusCode.INTERNAL, "internal error"
        note(code.name)
        await context.abort(code, details)
        return None

    return grpc.unary_unary_rpc_method_handler(handle)


def _metadata(context: grpc.aio.ServicerContext, wanted: str) -> list[str]:
    # Keys are in lower case.
    return [
        value for key, value in context.invocation_metadata() or () if key == wanted
    ]


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
            _fill(response.outputs[name], output)
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
        asked = self._service.number(*_asked(request.model_spec))
        response = get_model_status_pb2.GetModelStatusResponse()
        for number, state, text in self._service.states(asked):
            status = response.model_version_status.add(
                version=number,
                state=get_model_status_pb2.ModelVersionStatus.State.Value(state),
            )
            if text:
                status.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
                status.status.error_message = text
        return response.SerializeToString()


class _HandleReloadConfigRequest:
    """Changes which versions of the model are served, and their labels."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, message: bytes, hold: Hold) -> bytes:
        policy = await self._service.convert(len(message), self._read, message)
        loop = asyncio.get_running_loop()
        # A thread of its own: loading takes long, and others' messages do not wait.
        try:
            with concurrent.futures.ThreadPoolExecutor(1) as thread:
                change = self._service.versions.change_policy
                await loop.run_in_executor(thread, change, policy)
        except ValueError as error:
            folder = self._service.versions.path
            raise RequestError(
                without_folders(str(error), folder), "NOT_FOUND"
            ) from None
        _log.info("%s", f"a client changed which versions are served: {policy}")
        return model_management_pb2.ReloadConfigResponse().SerializeToString()

    def _read(self, message: bytes) -> VersionPolicy:
        request = _parsed(model_management_pb2.ReloadConfigRequest, message)
        configs = list(request.config.model_config_list.config)
        if len(configs) != 1:
            raise RequestError(
                f"Expected a `model_config_list` of one model, received {len(configs)}."
            )
        config = configs[0]
        named = config.model_version_policy.specific.versions, config.version_labels
        if max(map(len, named)) > _MOST_VERSIONS:
            raise RequestError(
                f"A policy may name {_MOST_VERSIONS} versions, received "
                f"{max(map(len, named))}."
            )
        self._service.check_name(config.name)
        if config.base_path not in ("", self._service.versions.path):
            raise RequestError(
                "`base_path` cannot be changed here. Leave it out, or send that which "
                "the server was started with."
            )
        choice = config.model_version_policy
        latest = 1
        if choice.HasField("latest"):
            latest = choice.latest.num_versions or 1
        elif choice.HasField("all"):
            latest = 2**32
        try:
            return VersionPolicy(
                latest, tuple(choice.specific.versions), dict(config.version_labels)
            )
        except ValueError as error:
            raise RequestError(str(error)) from None


def _wanted(output_filter: Sequence[str], outputs: Collection[str]) -> list[str]:
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
    return service.version(*_asked(specification))


def _asked(
    specification: model_pb2.ModelSpec,
) -> tuple[str, int | None, str | None]:
    """The model, and the number or label of the version; None where there is none."""
    number = specification.version.value if specification.HasField("version") else None
    return specification.name, number, specification.version_label or None


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


def _fill(proto: tensor_pb2.TensorProto, array: np.ndarray) -> None:
    """Makes a tensor's message, with values where clients look for them."""
    field = _FIELDS.get(array.dtype.name)
    if field is None:
        proto.CopyFrom(tf.make_tensor_proto(array))
        return
    proto.dtype = tf.as_dtype(array.dtype).as_datatype_enum
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, field).extend(array.ravel().tolist())


def _dtype_name(enum: int) -> str:
    try:
        return tf.as_dtype(enum).name
    except TypeError:
        return f"dtype {enum}"
