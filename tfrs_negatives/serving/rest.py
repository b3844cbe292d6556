"""TensorFlow Serving's REST protocol.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from google.protobuf import json_format
from starlette import exceptions
from starlette.requests import ClientDisconnect
from tensorflow_serving.apis import get_model_metadata_pb2

from tfrs_negatives.serving import json_tensors
from tfrs_negatives.serving.request_error import RequestError
from tfrs_negatives.serving.server_limits import Limits
from tfrs_negatives.serving.service import Service

_MODEL = "/v1/models/{name}"
_VERSION = _MODEL + "/versions/{number:int}"


def rest_app(service: Service) -> FastAPI:
    """An ASGI application that answers for a model.

    * `POST /v1/models/NAME[/versions/N]:predict`
    * `GET /v1/models/NAME[/versions/N]`: the state of the versions
    * `GET /v1/models/NAME[/versions/N]/metadata`: the signatures
    * `GET /healthz/live`, `GET /healthz/ready`: 200

    Args:
      service: `Service`.

    Returns:
      `fastapi.FastAPI`.
    """
    app = FastAPI(title="tfrs_negatives", openapi_url=None)

    @app.post(_VERSION + ":predict")
    @app.post(_MODEL + ":predict")
    async def predict(request: Request) -> Response:
        version = service.version(**request.path_params)
        body = await _body(request, service.limits)
        signature, layout, values = json_tensors.parse_request(body)
        specs = version.signature_inputs(signature)
        optional = version.defaults[signature]
        inputs = json_tensors.to_arrays(layout, values, specs, optional)
        outputs = await service.predict(version, signature, inputs)
        return _json(json_tensors.to_json(layout, outputs))

    @app.get(_VERSION + "/metadata")
    @app.get(_MODEL + "/metadata")
    async def metadata(request: Request) -> Response:
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
                signatures, preserving_proto_field_name=True
            )
        }
        return _json({"model_spec": specification, "metadata": metadata})

    @app.get(_VERSION)
    @app.get(_MODEL)
    async def status(request: Request) -> Response:
        service.check_name(request.path_params["name"])
        states = service.states(request.path_params.get("number"))
        return _json({"model_version_status": [_status(*state) for state in states]})

    @app.get("/healthz/live")
    @app.get("/healthz/ready")
    async def health() -> Response:
        # A server starts to listen when it is ready, and stops before it is not.
        return _json({"version": service.versions.current.number})

    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: RequestError) -> Response:
        return _json({"error": str(error)}, error.http_status)

    @app.exception_handler(HTTPException)
    @app.exception_handler(404)
    @app.exception_handler(405)
    async def refuse_path(
        request: Request, error: exceptions.HTTPException
    ) -> Response:
        message = f"{error.detail}: {request.method} {request.url.path[:200]}"
        return _json({"error": message}, error.status_code)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> Response:
        return _json({"error": "internal error"}, 500)

    return app


async def _body(request: Request, limits: Limits) -> bytes:
    """The body of a request; stops to read where it is too large."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal():
        limits.check_bytes(int(announced))
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            limits.check_bytes(size)
            parts.append(part)
    except ClientDisconnect:
        raise RequestError("The client hung up in the middle of a request.") from None
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
