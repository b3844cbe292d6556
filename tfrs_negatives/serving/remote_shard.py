"""A shard behind a server, or behind several that serve the same."""

from __future__ import annotations

import dataclasses
import itertools
import re
import threading
import time
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from tfrs_negatives.index.shards.shard import (
    EXCLUDING,
    PLAIN,
    ShardDescription,
    ShardError,
)

_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s,:/\[\]]+):[0-9]{1,5}")

# A server that starts again is to be found within a second, not within minutes.
_CHANNEL = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", -1),
]

# A request that is refused may tell that a server has another model now. It is asked so
# often at the most: somebody may send wrong requests without end.
_LOOK_AGAIN = 1.0

_REFUSED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}
_FAILED = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.CANCELLED,
}


@dataclasses.dataclass(frozen=True)
class RemoteShard:
    """A shard that `tfrs-negatives serve`, or TensorFlow Serving, serves over gRPC.

    Args:
      addresses: "host:port", or several with commas, which take turns. One that cannot
        be reached is passed over.
      model: What the servers call the model.
      token: Their query token, if they have one.
      certificates: PEM of who vouches for their certificates. With it, connections use
        TLS.

    Raises:
      ValueError: Something that is no address.

    Example:
      >>> tn.serving.RemoteShard("10.0.0.1:8500,10.0.0.2:8500").name
      '10.0.0.1:8500,10.0.0.2:8500'
    """

    addresses: str
    model: str = "retrieval"
    token: str | None = dataclasses.field(default=None, repr=False)
    certificates: bytes | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        for address in self.each():
            if not _ADDRESS.fullmatch(address):
                raise ValueError(
                    "Expected addresses of gRPC such as 10.0.0.1:8500, or several with "
                    f"commas, received {address!r}."
                )

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.addresses

    def each(self) -> list[str]:
        """The addresses."""
        return [address.strip() for address in self.addresses.split(",")]

    def open(self, name: str) -> _OpenRemoteShard:
        """See `Shard`."""
        return _OpenRemoteShard(
            [_Replica(self, address, name) for address in self.each()]
        )


class _OpenRemoteShard:
    """Replicas that take turns."""

    def __init__(self, replicas: list[_Replica]) -> None:
        self._replicas = replicas
        self._turns = itertools.count()

    def describe(self, seconds: float) -> ShardDescription:
        """See `OpenShard`."""
        return self._first(seconds, lambda replica, left: replica.describe(left))

    def ask(
        self, signature: str, inputs: Mapping[str, np.ndarray], seconds: float
    ) -> dict[str, np.ndarray]:
        """See `OpenShard`."""
        return self._first(
            seconds, lambda replica, left: replica.ask(signature, inputs, left)
        )

    def close(self) -> None:
        """See `OpenShard`."""
        for replica in self._replicas:
            replica.channel.close()

    def _first(self, seconds: float, ask: Any) -> Any:
        """What the first replica returns that can be reached."""
        end, turn = time.monotonic() + seconds, next(self._turns)
        count = len(self._replicas)
        for place in range(count):
            # One that does not answer leaves time for the others.
            left = (end - time.monotonic()) / (count - place)
            try:
                return ask(self._replicas[(turn + place) % count], max(left, 0.001))
            except OSError:
                if place + 1 == count:
                    raise
        raise AssertionError("there is at least one replica")


class _Replica:
    """One server, and which of its versions is of the model."""

    def __init__(self, shard: RemoteShard, address: str, name: str) -> None:
        self._shard, self._name = shard, name
        if shard.certificates is None:
            self.channel = grpc.insecure_channel(address, _CHANNEL)
        else:
            credentials = grpc.ssl_channel_credentials(shard.certificates)
            self.channel = grpc.secure_channel(address, credentials, _CHANNEL)
        self._states = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self._model = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self._metadata = []
        if shard.token is not None:
            self._metadata = [("authorization", f"Bearer {shard.token}")]
        self._lock = threading.Lock()
        self._version: int | None = None
        self._looked_at = 0.0

    def describe(self, seconds: float) -> ShardDescription:
        """Finds the version that is of the model.

        Once more if a version is replaced between two answers.
        """
        end = time.monotonic() + seconds
        for is_last in (False, True):
            try:
                versions = self._available(end)
                self._looked_at = time.monotonic()
                for version in versions:
                    description = self._description(version, end)
                    if description is not None:
                        self._version = version
                        return description
            except LookupError as error:
                if is_last:
                    raise ShardError(str(error)) from None
            else:
                self._version = None
                listed = ", ".join(map(str, versions)) or "none"
                raise ShardError(f"none of its versions ({listed}) takes {self._name}")
        raise AssertionError("the last try returns or raises")

    def ask(
        self, signature: str, inputs: Mapping[str, np.ndarray], seconds: float
    ) -> dict[str, np.ndarray]:
        """Asks, once more if the version has been replaced by one of the same model."""
        end = time.monotonic() + seconds
        for is_last in (False, True):
            version = self._version
            if version is None:
                self.describe(end - time.monotonic())
                version = self._version
            request = predict_pb2.PredictRequest()
            request.model_spec.name = self._shard.model
            request.model_spec.signature_name = signature
            request.model_spec.version.value = version
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            try:
                outputs = self._called(self._model.Predict, request, end).outputs
                return {n: tf.make_ndarray(value) for n, value in outputs.items()}
            except ValueError:
                with self._lock:
                    looks = time.monotonic() - self._looked_at > _LOOK_AGAIN
                    if looks:
                        self._looked_at = time.monotonic()
                if is_last or not looks:
                    raise
                self.describe(end - time.monotonic())
                if self._version == version:
                    raise
            except LookupError as error:
                if is_last:
                    raise ShardError(str(error)) from None
                self._version = None
        raise AssertionError("the last try returns or raises")

    def _available(self, end: float) -> list[int]:
        """The versions that are served, the newest first."""
        states = get_model_status_pb2.GetModelStatusRequest()
        states.model_spec.name = self._shard.model
        found = self._called(self._states.GetModelStatus, states, end)
        available = get_model_status_pb2.ModelVersionStatus.AVAILABLE
        versions = (
            one.version for one in found.model_version_status if one.state == available
        )
        return sorted(versions, reverse=True)

    def _description(self, version: int, end: float) -> ShardDescription | None:
        """What a version takes and returns; None: it is of another model."""
        request = get_model_metadata_pb2.GetModelMetadataRequest()
        request.model_spec.name = self._shard.model
        request.model_spec.version.value = version
        request.metadata_field.append("signature_def")
        found = self._called(self._model.GetModelMetadata, request, end)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        found.metadata["signature_def"].Unpack(signatures)
        if not {PLAIN, EXCLUDING} <= set(signatures.signature_def):
            return None
        signature = signatures.signature_def[PLAIN]
        if self._name not in signature.inputs:
            return None
        options = {
            name: tf.make_ndarray(value) for name, value in signature.defaults.items()
        }
        return ShardDescription.of(
            self._name,
            _specs(signature.inputs),
            _specs(signature.outputs),
            {name: _plain(value) for name, value in options.items()},
        )

    def _called(self, method: Any, request: Any, end: float) -> Any:
        left = max(end - time.monotonic(), 0.001)
        try:
            return method(request, timeout=left, metadata=self._metadata)
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
            if code in _FAILED:
                raise ConnectionError(f"{code.name}: {details}") from None
            if code is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError(f"no answer within {left:.3g} seconds") from None
            if code in _REFUSED:
                raise ValueError(details) from None
            if code is grpc.StatusCode.NOT_FOUND:
                raise LookupError(details) from None
            raise ShardError(f"{code.name}: {details}") from None


def _specs(infos: Mapping[str, Any]) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec(tf.TensorShape(info.tensor_shape), info.dtype, name)
        for name, info in infos.items()
    }


def _plain(value: np.ndarray) -> Any:
    """The default of an option: one number or text."""
    (first, *_) = value.reshape(-1).tolist() or [None]
    return first.decode() if isinstance(first, bytes) else first
