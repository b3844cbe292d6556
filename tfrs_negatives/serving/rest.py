"""TensorFlow Serving's REST protocol.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.middleware.cors import CORSMiddleware
from google.protobuf import json_format
from starlette import exceptions
from starlette.convertors import Convertor, register_url_convertor
from starlette.requests import ClientDisconnect
from starlette.responses import HTMLResponse
from tensorflow_serving.apis import get_model_metadata_pb2

from tfrs_negatives.serving import json_tensors, request_id
from tfrs_negatives.serving.bearer_tokens import AdminToken
from tfrs_negatives.serving.bytes_in_flight import Hold
from tfrs_negatives.serving.compressed_body import decompressed, is_compressed
from tfrs_negatives.serving.guarded_connection import ANSWER_SENT
from tfrs_negatives.serving.item_changes import FIELDS
from tfrs_negatives.serving.model_version import ModelVersion
from tfrs_negatives.serving.openapi_document import openapi_document
from tfrs_negatives.serving.request_error import RequestError
from tfrs_negatives.serving.server_limits import Limits
from tfrs_negatives.serving.service import Service
from tfrs_negatives.serving.signature_page import POLICY, signature_page
from tfrs_negatives.serving.time_limit import TimeLimit

_ID = request_id.FIELD.encode()

_MODEL = "/v1/models/{name}"
_VERSION = _MODEL + "/versions/{number:model_version}"
_LABEL = _MODEL + "/labels/{label}"

# Fields that a request has once, or it says two things (RFC 9110, section 5.3).
_SINGLE = {
    b"content-encoding",
    b"content-length",
    b"content-type",
    b"host",
    b"transfer-encoding",
}


class _Version(Convertor[int]):
    """A number of a version, an int64."""

    # Python refuses to read numbers of thousands of digits.
    regex = "[0-9]{1,18}"

    def convert(self, value: str) -> int:
        return int(value)

    def to_string(self, value: int) -> str:
        return str(value)


register_url_convertor("model_version", _Version())


def rest_app(service: Service, cors_origins: Sequence[str] = ()) -> FastAPI:
    """An ASGI application that answers for a model.

    * `POST /v1/models/NAME[/versions/N|/labels/L]:predict`
    * `GET /v1/models/NAME[/versions/N|/labels/L]`: the state of the versions
    * `GET /v1/models/NAME[/versions/N|/labels/L]/metadata`: the signatures
    * `POST /v1/models/NAME[/versions/N|/labels/L]:upsert` and `:delete`, where the
      service has an admin token
    * `GET /docs`, `GET /openapi.json`: the signatures, for people and for programs
    * `GET /monitoring/prometheus/metrics`: counts for Prometheus
    * `GET /healthz/live`, `GET /healthz/ready`: 200

    Args:
      service: `Service`.
      cors_origins: Origins whose pages may ask, such as "https://shop.example"; "*"
        for all.

    Returns:
      `fastapi.FastAPI`.
    """
    # A redirect to a path without its last slash would lead where `Host` says.
    app = FastAPI(title="tfrs_negatives", openapi_url=None, redirect_slashes=False)

    def read(
        version: ModelVersion, body: bytes
    ) -> tuple[str, str, Mapping[str, np.ndarray]]:
        signature, layout, values = json_tensors.parse_request(body, service.limits)
        specs = version.signature_inputs(signature)
        optional = version.defaults[signature]
        inputs = json_tensors.to_arrays(layout, values, specs, optional)
        return signature, layout, inputs

    def check_asker(request: Request) -> None:
        if service.query_token is not None:
            service.query_token.check(request.headers.getlist("authorization"))

    async def predict(request: Request) -> Response:
        check_asker(request)
        version = service.version(**request.path_params)
        body = await _content(request, service)
        signature, layout, inputs = await service.convert(
            len(body), read, version, body
        )
        outputs = await service.predict(version, signature, inputs)
        size = sum(output.size for output in outputs.values())
        answer = await service.convert(size, json_tensors.to_json, layout, outputs)
        request.scope["hold"].add(len(answer))
        return _json(answer)

    def changes(kind: str, token: AdminToken) -> Any:
        async def change(request: Request) -> Response:
            # Before anything is read of who may not.
            token.check(request.headers.getlist("authorization"))
            version = service.version(**request.path_params)
            body = await _content(request, service)
            return _json(await service.change(version, kind, body))

        return change

    # Routes of FastAPI's own look for what to inject, which takes longer than all that
    # stands around `predict`.
    for path in (_MODEL, _VERSION, _LABEL):
        app.add_route(path + ":predict", predict, methods=["POST"])
        if service.admin_token is not None:
            for kind in FIELDS:
                change = changes(kind, service.admin_token)
                app.add_route(f"{path}:{kind}", change, methods=["POST"])

    @app.get(_LABEL + "/metadata")
    @app.get(_VERSION + "/metadata")
    @app.get(_MODEL + "/metadata")
    async def metadata(request: Request) -> Response:
        check_asker(request)
        version = service.version(**request.path_params)
        signatures = get_model_metadata_pb2.SignatureDefMap(
            signature_def=version.signature_defs
        )
        specification = {
            "name": service.name,
            "signature_name": "",
            "version": str(version.number),
        }
        metadata = {
            "signature_def": json_format.MessageToDict(
                signatures,
                preserving_proto_field_name=True,
                # So that a scalar's shape is there: it has no dimensions.
                always_print_fields_with_no_presence=True,
            )
        }
        return _json({"model_spec": specification, "metadata": metadata})

    @app.get(_LABEL)
    @app.get(_VERSION)
    @app.get(_MODEL)
    async def status(request: Request) -> Response:
        number = service.number(**request.path_params)
        states = service.states(number)
        return _json({"model_version_status": [_status(*state) for state in states]})

    @app.get("/openapi.json")
    async def document(request: Request) -> Response:
        check_asker(request)
        return _json(openapi_document(service, service.versions.current))

    @app.get("/docs")
    async def page(request: Request) -> Response:
        check_asker(request)
        text = signature_page(service.name, service.versions.current)
        return HTMLResponse(text, headers={"content-security-policy": POLICY})

    @app.get("/healthz/live")
    @app.get("/healthz/ready")
    async def health() -> Response:
        # A server starts to listen when it is ready, and stops before it is not.
        return _json({"version": service.versions.current.number})

    @app.get("/monitoring/prometheus/metrics")
    async def metrics() -> Response:
        gauges = {
            "bytes_in_flight": service.bytes_in_flight.held,
            "waiting_requests": service.batcher.waiting,
            **service.versions.current.gauges(),
        }
        text = service.monitoring.text(service.states(), gauges)
        return Response(text, media_type="text/plain; version=0.0.4")

    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: RequestError) -> Response:
        response = _json({"error": str(error)}, error.http_status)
        if error.code == "DEADLINE_EXCEEDED":  # The rest of the body is still to come.
            response.headers["connection"] = "close"
        if error.code == "UNAUTHENTICATED":  # The whole body is.
            response.headers["connection"] = "close"
            response.headers["www-authenticate"] = "Bearer"
        return response

    @app.exception_handler(HTTPException)
    @app.exception_handler(404)
    @app.exception_handler(405)
    async def refuse_path(
        request: Request, error: exceptions.HTTPException
    ) -> Response:
        path = request.scope["path"][:200]
        message = f"{error.detail}: {request.method} {path}"
        return _json({"error": message}, error.status_code)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        response = _json({"error": "internal error"}, 500)
        # Starlette answers outside of what is added to it.
        response.headers[request_id.FIELD] = request_id.current.get()
        return response

    if cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=cors_origins,
            allow_methods=["GET", "POST"],
            allow_headers=[
                "Authorization",
                "Content-Encoding",
                "Content-Type",
                request_id.FIELD,
            ],
            expose_headers=[request_id.FIELD],
        )
    app.add_middleware(_HeldBytes, service=service)
    app.add_middleware(_Noted, service=service)
    return app


class _Noted:
    """Notes each answer, and names its request.

    Args:
      app: The ASGI application inside.
      service: `Service`.
    """

    def __init__(self, app: Any, service: Service) -> None:
        self._app, self._monitoring = app, service.monitoring

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        given = [
            value.decode("latin-1") for name, value in scope["headers"] if name == _ID
        ]
        named = request_id.request_id_of(given)
        # The task is that of this request alone.
        request_id.current.set(named)

        def note(status: int) -> None:
            seconds = time.perf_counter() - start
            client = (scope.get("client") or ("",))[0]
            self._monitoring.note(
                "REST", status, seconds, scope["method"], scope["path"], client
            )

        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start":
                note(message["status"])
                message["headers"].append((_ID, named.encode()))
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except Exception:  # Starlette answers outside of what is added to it.
            note(500)
            raise


class _HeldBytes:
    """Holds the bytes of a request until its answer is sent; looks at its fields.

    Args:
      app: The ASGI application inside.
      service: `Service`.
    """

    def __init__(self, app: Any, service: Service) -> None:
        self._app, self._service = app, service

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wrong = _wrong_fields(scope["headers"])
        if wrong is not None:
            response = _json({"error": wrong}, 400)
            response.headers["connection"] = "close"
            await response(scope, receive, send)
            return
        with self._service.bytes_in_flight.hold() as hold:
            scope["hold"] = hold
            await self._app(scope, receive, send)
            if ANSWER_SENT in scope:
                await scope[ANSWER_SENT]()


def _wrong_fields(fields: list[tuple[bytes, bytes]]) -> str | None:
    """What is wrong with the header fields of a request, or None."""
    names = [name for name, _ in fields if name in _SINGLE]
    if len(set(names)) < len(names):
        name = next(name for name in names if names.count(name) > 1)
        return f"A request has one {name.decode()}, received {names.count(name)}."
    if b"content-length" in names and b"transfer-encoding" in names:
        return (
            "A request has Content-Length or Transfer-Encoding, received both. Leave "
            "one out."
        )
    return None


async def _content(request: Request, service: Service) -> bytes:
    """What the body of a request holds."""
    hold = request.scope["hold"]
    compressed = is_compressed(request.headers.get("content-encoding", ""))
    body = await _body(request, service.limits, hold)
    if compressed:
        # Whose size says nothing of the work.
        body = await service.convert(
            service.limits.max_request_bytes, decompressed, body, service.limits
        )
        hold.add(len(body))
    return body


async def _body(request: Request, limits: Limits, hold: Hold) -> bytes:
    """The body of a request; stops to read where it is too large or too slow."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal():
        limits.check_bytes(int(announced[:20]))
    parts, size = [], 0
    try:
        with TimeLimit(limits.body_seconds):
            async for part in request.stream():
                size += len(part)
                limits.check_bytes(size)
                hold.add(len(part))
                parts.append(part)
    except ClientDisconnect:
        raise RequestError("The client hung up in the middle of a request.") from None
    except asyncio.TimeoutError:
        raise RequestError(
            f"The body of a request may take {limits.body_seconds} seconds, received "
            f"{size} bytes until then. Send it faster, or fewer rows at a time.",
            "DEADLINE_EXCEEDED",
        ) from None
    return b"".join(parts)


def _status(number: int, state: str, message: str) -> dict[str, Any]:
    code = "UNKNOWN" if message else "OK"
    return {
        "version": str(number),
        "state": state,
        "status": {"error_code": code, "error_message": message},
    }


def _json(content: bytes | dict[str, Any], status: int = 200) -> Response:
    if not isinstance(content, bytes):
        content = json.dumps(content, allow_nan=False).encode()
    return Response(content, status, media_type="application/json")
