"""How objects say what they are: by name, and by the options that someone chose."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

# Entries of a list or a dict that are shown.
_MOST = 4
# Characters of a string that are shown.
_LONGEST = 40


def described(instance: object, **options: Any) -> str:
    """What `repr` of an object returns.

    Args:
      instance: The object.
      **options: Values by the names of the constructor's arguments. Those that are
        their arguments' defaults are left out.

    Returns:
      As in "StreamingFrequency(num_ids=5000, mode='hit')": text of one line. Of long
      tensors and arrays it has shapes and dtypes, of objects of others their class.
    """
    parameters = inspect.signature(type(instance).__init__).parameters
    shown = []
    for name, value in options.items():
        value = _few_numbers(value)
        parameter = parameters.get(name)
        if parameter is None or not _are_same(value, parameter.default):
            shown.append(f"{name}={_text(value)}")
    return f"{type(instance).__name__}({', '.join(shown)})"


def _are_same(value: Any, default: Any) -> bool:
    if value is default:
        return True
    if _is_array(value) or _is_array(default):
        return False
    return type(value) is type(default) and value == default


def _few_numbers(value: Any) -> Any:
    """A scalar or a short vector as numbers, where they can be read; else itself."""
    if not _is_array(value):
        return value
    try:
        if len(value.shape) > 1 or math.prod(value.shape) > _MOST:
            return value
        numbers = value.numpy() if hasattr(value, "numpy") else value
        return numbers.tolist()
    # Of an unknown shape, in a graph, strings.
    except (AttributeError, NotImplementedError, TypeError, ValueError):
        return value


def _is_array(value: object) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _text(value: Any) -> str:
    value = _few_numbers(value)
    if isinstance(value, float):
        # Without what rounding has left behind: 1 - 0.85 is 0.15.
        return f"{value:.6g}" if math.isfinite(value) else repr(value)
    if isinstance(value, str) and len(value) > _LONGEST:
        return repr(value[:_LONGEST] + "...")
    if value is None or isinstance(value, (str, bytes, int)):
        return repr(value)
    if _is_array(value):
        dtype = getattr(value.dtype, "name", value.dtype)
        return f"<{value.shape} {dtype}>"
    if isinstance(value, Mapping):
        return "{" + _few(value.items(), lambda e: ": ".join(map(_text, e))) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + _few(value, _text) + "]"
    if inspect.isroutine(value) or inspect.isclass(value):
        return value.__name__
    if type(value).__module__.partition(".")[0] == __package__:
        return repr(value)
    return type(value).__name__


def _few(entries: Collection[Any], text: Callable[[Any], str]) -> str:
    shown = [text(entry) for entry in itertools.islice(entries, _MOST)]
    if len(entries) > _MOST:
        shown.append(f"... {len(entries)} in all")
    return ", ".join(shown)
