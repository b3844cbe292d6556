"""JSON Schemas of what `json_tensors` reads and writes for a signature.

Source: https://json-schema.org/draft/2020-12
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfrs_negatives.serving.model_version import ModelVersion

Schema: TypeAlias = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_BYTES: Schema = {
    "type": "object",
    "properties": {"b64": {"type": "string", "contentEncoding": "base64"}},
    "required": ["b64"],
    "additionalProperties": False,
}


def signature_schemas(version: ModelVersion, signature: str) -> dict[str, Schema]:
    """Schemas of the requests to a signature, and of the answers.

    Args:
      version: `ModelVersion`.
      signature: One of its `inputs`.

    Returns:
      Dict from name to schema: "SIGNATURE.inputs" (columns), "SIGNATURE.instance" (a
      row), "SIGNATURE.request" and "SIGNATURE.answer".
    """
    specs, defaults = version.inputs[signature], version.defaults[signature]
    columns = {name: _column(spec) for name, spec in specs.items()}
    rows = {name: _row(spec) for name, spec in specs.items()}
    for name, value in defaults.items():
        default = json_of(value)
        columns[name]["default"] = default
        # One for all rows is the same in each.
        rows[name]["default"] = default if value.ndim == 0 else default[0]
    needed = [name for name in specs if name not in defaults]
    all_columns = reference(f"{signature}.inputs")
    each_row = reference(f"{signature}.instance")
    if len(needed) == 1:  # Which need not be named.
        all_columns = {"anyOf": [all_columns, _column(specs[needed[0]])]}
        each_row = {"anyOf": [each_row, _row(specs[needed[0]])]}
    layouts = {"inputs": all_columns, "instances": _list(each_row)}
    outputs = version.outputs[signature]
    answers = {
        "outputs": _unless_alone({n: _column(s, n) for n, s in outputs.items()}),
        "predictions": _list(
            _unless_alone({n: _row(s, n) for n, s in outputs.items()})
        ),
    }
    is_default = signature == "serving_default"
    named = {"signature_name": {"const": signature}}
    return {
        f"{signature}.inputs": closed_object(columns, defaults),
        f"{signature}.instance": closed_object(rows, defaults),
        f"{signature}.request": {
            "oneOf": [
                closed_object({**named, layout: schema}, named if is_default else ())
                for layout, schema in layouts.items()
            ]
        },
        f"{signature}.answer": {
            "oneOf": [closed_object({name: one}) for name, one in answers.items()]
        },
    }


def tensor_text(spec: tf.TensorSpec) -> str:
    """Dtype and shape, as in "int64 [rows, 20]", or "int32" of a scalar."""
    sizes = ["any" if size is None else str(size) for size in spec.shape.as_list()]
    if not sizes:
        return str(spec.dtype.name)
    return f"{spec.dtype.name} [{', '.join(['rows', *sizes[1:]])}]"


def json_of(value: np.ndarray) -> Any:
    """An array of few values as JSON has it."""
    if value.dtype != object:
        return value.tolist()
    texts = np.empty(value.size, object)
    texts[:] = [one.decode("utf-8", "replace") for one in value.flat]
    return texts.reshape(value.shape).tolist()


def closed_object(
    properties: Mapping[str, Schema], optional: Collection[str] = ()
) -> Schema:
    """An object of these properties and no others."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def reference(name: str) -> Schema:
    """What stands for a schema of the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}


def _unless_alone(outputs: dict[str, Schema]) -> Schema:
    """Outputs by their names; a single one goes without."""
    return closed_object(outputs) if len(outputs) > 1 else next(iter(outputs.values()))


def _column(spec: tf.TensorSpec, output: str = "") -> Schema:
    return _nested(spec, spec.shape.as_list(), output)


def _row(spec: tf.TensorSpec, output: str = "") -> Schema:
    return _nested(spec, spec.shape.as_list()[1:], output)


def _nested(spec: tf.TensorSpec, sizes: list[int | None], output: str) -> Schema:
    schema = _value(spec.dtype, output)
    for size in reversed(sizes):
        schema = _list(schema)
        if size is not None:
            schema |= {"minItems": size, "maxItems": size}
    return {**schema, "description": tensor_text(spec)}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _value(dtype: tf.DType, output: str) -> Schema:
    """A value of an input, or of an output of that name."""
    if dtype == tf.string:
        return _BYTES if output.endswith("_bytes") else {"anyOf": [_TEXT, _BYTES]}
    if dtype == tf.bool:
        return {"type": "boolean"}
    if dtype.is_integer:
        return {"type": "integer", "format": dtype.name}
    # What is not finite in an answer is null.
    kind = ["number", "null"] if output else "number"
    return {"type": kind, "format": dtype.name}
