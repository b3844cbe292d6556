"""TensorFlow Serving's JSON for requests and answers.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives.serving.request_error import RequestError
from tfrs_negatives.serving.server_limits import Limits
from tfrs_negatives.serving.service import check_names

_ROWS, _COLUMNS = "instances", "inputs"

# Values that are written at a time: the other threads wait for each such step.
_STEP = 2**12


def parse_request(body: bytes, limits: Limits) -> tuple[str, str, Any]:
    """Reads the body of a request to predict.

    Args:
      body: Bytes.
      limits: `Limits`.

    Returns:
      The name of the signature, "instances" (rows) or "inputs" (columns), and what
      stands there.

    Raises:
      RequestError: It is no JSON, not of this form, or has too many values.
    """
    # Parsing costs as much as there are values, and holds up all threads meanwhile.
    limits.check_values(sum(body.count(sign) for sign in (b",", b"[", b"{")))
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"Expected JSON, received something else: {error}") from None
    if not isinstance(request, dict):
        raise RequestError(
            f"Expected a JSON object, received {_type_name(request)}. Send "
            '{"instances": [...]} or {"inputs": {...}}.'
        )
    layouts = [layout for layout in (_ROWS, _COLUMNS) if layout in request]
    # Other keys are ignored, as by TensorFlow Serving.
    if len(layouts) != 1:
        names = map(repr, sorted(itertools.islice(request, 9)))
        raise RequestError(
            f'Expected "{_ROWS}" or "{_COLUMNS}", with "signature_name" or not, '
            f"received {', '.join(names) or 'neither'}."
        )
    signature = request.get("signature_name", "")
    if not isinstance(signature, str):
        raise RequestError(
            f'"signature_name" must be a string, received {_type_name(signature)}.'
        )
    return signature or "serving_default", layouts[0], request[layouts[0]]


def to_arrays(
    layout: str,
    values: Any,
    specs: Mapping[str, tf.TensorSpec],
    optional: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """The inputs of a request as arrays.

    Rows hold all inputs; a scalar such as k must be the same in each of them.

    Args:
      layout: "instances" or "inputs".
      values: What stands there.
      specs: The signature's inputs, a dict from name to `tf.TensorSpec`.
      optional: Names of inputs that may be missing.

    Returns:
      Dict from name to array, of the dtypes of `specs`.

    Raises:
      RequestError: Names, types or shapes are not those of the signature.
    """
    if layout == _COLUMNS:
        columns = values
        if not isinstance(values, dict) or _is_bytes(values):
            columns = {_only_name(specs, optional): values}
        check_names(specs, columns, optional)
    else:
        columns = _columns(values, specs, optional)
    return {name: _array(value, specs[name]) for name, value in columns.items()}


def to_json(layout: str, outputs: Mapping[str, np.ndarray]) -> bytes:
    """The body of an answer.

    Args:
      layout: That of the request.
      outputs: Dict from name to array with one row per row of the request.

    Returns:
      Bytes. Numbers that are not finite are null, since JSON has none. (TensorFlow
      Serving writes `-Infinity`, at which most parsers stop.)
    """
    columns = {name: _values(name, value) for name, value in outputs.items()}
    alone = len(columns) == 1
    if layout == _COLUMNS:
        answer = {"outputs": next(iter(columns.values())) if alone else columns}
    elif alone:
        answer = {"predictions": next(iter(columns.values()))}
    else:
        rows = zip(*columns.values(), strict=True)
        answer = {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}
    if sum(value.size for value in outputs.values()) <= _STEP:
        return _dumps(answer).encode()
    return "".join(_written(answer)).encode()


def _written(value: Any) -> Iterator[str]:
    """JSON in parts, each of few values; lists hold values of one kind."""
    if isinstance(value, dict) and value and not _is_bytes(value):
        for place, (name, one) in enumerate(value.items()):
            yield f"{',' if place else '{'}{json.dumps(name)}:"
            yield from _written(one)
        yield "}"
    elif isinstance(value, list) and value and isinstance(value[0], (list, dict)):
        for place, one in enumerate(value):
            yield "," if place else "["
            yield from _written(one)
        yield "]"
    elif isinstance(value, list) and len(value) > _STEP:
        for start in range(0, len(value), _STEP):
            yield "," if start else "["
            yield _dumps(value[start : start + _STEP])[1:-1]
        yield "]"
    else:
        yield _dumps(value)


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _columns(
    rows: Any, specs: Mapping[str, tf.TensorSpec], optional: Collection[str]
) -> dict[str, Any]:
    if not isinstance(rows, list) or not rows:
        raise RequestError(
            f'"{_ROWS}" must be a list of at least one row, received '
            f"{_type_name(rows)}."
        )
    if not isinstance(rows[0], dict) or _is_bytes(rows[0]):
        return {_only_name(specs, optional): rows}
    columns: dict[str, list[Any]] = {name: [] for name in specs}
    for place, row in enumerate(rows):
        if not isinstance(row, dict):
            raise RequestError(f"All rows must be objects; row {place} is not.")
        check_names(specs, row, optional)
        for name, value in row.items():
            columns[name].append(value)
    columns = {name: values for name, values in columns.items() if values}
    for name, values in columns.items():
        if specs[name].shape.rank == 0:
            first = values[0]
            if len(values) < len(rows) or any(
                type(one) is not type(first) or one != first for one in values
            ):
                raise RequestError(f"{name!r} must be the same in all rows.")
            columns[name] = first
        elif len(values) < len(rows):
            raise RequestError(f"{name!r} must be in all rows, or in none.")
    return columns


def _only_name(specs: Mapping[str, tf.TensorSpec], optional: Collection[str]) -> str:
    """The only input that there must be, which a request need not name."""
    needed = [name for name in specs if name not in optional]
    if len(needed) != 1:
        raise RequestError(
            f"Expected objects with the inputs {', '.join(sorted(specs))}, received "
            "values without names."
        )
    return needed[0]


def _array(value: Any, spec: tf.TensorSpec) -> np.ndarray:
    dtype = spec.dtype
    try:
        array = np.array(value, object)
    except ValueError:  # Some ragged lists.
        array = np.array([None])
    if array.shape == (0,) and spec.shape.rank:
        # No row says what the rows would look like.
        array = array.reshape([0, *(size or 0 for size in spec.shape.as_list()[1:])])
    # NumPy cannot go through the values of more than 32 dimensions.
    if array.ndim > spec.shape.rank:
        raise RequestError(
            f"{spec.name!r} must have shape {spec.shape}, received lists of depth "
            f"{array.ndim} or more."
        )
    kinds = set(map(type, array.flat))
    expected = _expected(dtype)
    if kinds - expected[0]:
        names = ", ".join(sorted(map(_python_name, kinds - expected[0])))
        raise RequestError(
            f"{spec.name!r} must hold {expected[1]}, in lists of equal length, of "
            f"shape {spec.shape}; received {names}."
        )
    try:
        if dtype == tf.string:
            flat = np.empty(array.size, object)
            flat[:] = [_to_bytes(one) for one in array.flat]
            return flat.reshape(array.shape)
        return array.astype(dtype.as_numpy_dtype)
    except (OverflowError, ValueError, binascii.Error) as error:
        raise RequestError(f"{spec.name!r} must hold {expected[1]}: {error}") from None


def _expected(dtype: tf.DType) -> tuple[set[type], str]:
    """The Python types for a dtype, and what to call them."""
    if dtype == tf.string:
        return {str, dict}, 'strings or {"b64": "..."}'
    if dtype == tf.bool:
        return {bool}, "true or false"
    if dtype.is_integer:
        return {int}, f"whole numbers ({dtype.name})"
    return {int, float}, f"numbers ({dtype.name})"


def _to_bytes(value: str | dict[str, Any]) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if not _is_bytes(value):
        raise ValueError('an object other than {"b64": "..."}')
    return base64.b64decode(value["b64"], validate=True)


def _is_bytes(value: dict[str, Any]) -> bool:
    """Whether a JSON object stands for a string of bytes."""
    return set(value) == {"b64"} and isinstance(value["b64"], str)


def _values(name: str, array: np.ndarray) -> list[Any]:
    if array.dtype != object:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            is_finite = np.isfinite(array)
            array = array.astype(object)
            array[~is_finite] = None
        return array.tolist()
    write = _to_base64 if name.endswith("_bytes") else _to_text
    flat = np.empty(array.size, object)
    flat[:] = [write(one) for one in array.flat]
    return flat.reshape(array.shape).tolist()


def _to_text(value: bytes) -> str | dict[str, str]:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _to_base64(value)


def _to_base64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


def _type_name(value: object) -> str:
    if isinstance(value, list) and not value:
        return "an empty list"
    return _python_name(type(value))


def _python_name(kind: type) -> str:
    return {
        dict: "an object",
        list: "lists of unequal length or depth",
        str: "a string",
        int: "a whole number",
        float: "a number",
        bool: "a truth value",
        type(None): "null",
    }[kind]
