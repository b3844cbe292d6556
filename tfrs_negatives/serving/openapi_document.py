"""What can be asked over REST of one model, for programs to read.

Source: https://spec.openapis.org/oas/v3.1.0
"""

from __future__ import annotations

from typing import Any

from tfrs_negatives._saved_live_retrieval import SavedLiveRetrieval
from tfrs_negatives.serving.item_changes import FIELDS
from tfrs_negatives.serving.model_version import ModelVersion
from tfrs_negatives.serving.service import Service
from tfrs_negatives.serving.signature_schemas import (
    Schema,
    closed_object,
    reference,
    signature_schemas,
)

_ERROR = closed_object({"error": {"type": "string"}})

_NUMBERS: Schema = {"type": "array", "items": {"type": "number"}}

# Of a change of items, by its field.
_CHANGED: dict[str, Schema] = {
    "ids": {"type": "array"},
    "embeddings": {"type": "array", "items": _NUMBERS},
    "payload": {"type": "object"},
    "attributes": {"type": "object"},
    "popularity": _NUMBERS,
}


def openapi_document(service: Service, version: ModelVersion) -> dict[str, Any]:
    """An OpenAPI document with the inputs and outputs of a version's signatures.

    Args:
      service: `Service`.
      version: `ModelVersion`.
    """
    model, signatures = f"/v1/models/{service.name}", sorted(version.inputs)
    schemas = {"error": _ERROR}
    for signature in signatures:
        schemas |= signature_schemas(version, signature)
    tokens = {"query": service.query_token, "admin": service.admin_token}
    roles = [role for role, token in tokens.items() if token is not None]
    asker = "query" if "query" in roles else None
    predict = _operation(
        "Predict",
        {"anyOf": [reference(f"{one}.answer") for one in signatures]},
        asker,
        {"anyOf": [reference(f"{one}.request") for one in signatures]},
    )
    paths = {
        f"{model}:predict": {"post": predict},
        model: {"get": _operation("The state of the versions")},
        f"{model}/metadata": {"get": _operation("The signatures", role=asker)},
        "/healthz/live": {"get": _operation("Whether the server runs")},
        "/healthz/ready": {"get": _operation("Whether the model is warm")},
    }
    if "admin" in roles and isinstance(version.model, SavedLiveRetrieval):
        for kind, (needed, others) in FIELDS.items():
            fields = {name: _CHANGED[name] for name in sorted(needed | others)}
            body = closed_object(fields, others)
            changed = _operation(f"Items: {kind}", role="admin", body=body)
            paths[f"{model}:{kind}"] = {"post": changed}
    schemes = {role: {"type": "http", "scheme": "bearer"} for role in roles}
    return {
        "openapi": "3.1.0",
        "info": {"title": service.name, "version": str(version.number)},
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": schemes},
    }


def _operation(
    summary: str,
    answer: Schema | None = None,
    role: str | None = None,
    body: Schema | None = None,
) -> dict[str, Any]:
    """A request and its answers.

    Args:
      summary: What it is for.
      answer: Schema of what comes back; None: an object.
      role: Whose token it needs.
      body: Schema of the request's body.
    """
    answers = {
        "200": {
            "description": "The answer",
            "content": _json(answer or {"type": "object"}),
        },
        "default": {
            "description": "Why there is none",
            "content": _json(reference("error")),
        },
    }
    operation: dict[str, Any] = {"summary": summary, "responses": answers}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": _json(body)}
    if role is not None:
        operation["security"] = [{role: []}]
    return operation


def _json(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}
