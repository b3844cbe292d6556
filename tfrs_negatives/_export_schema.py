"""What the description of an export must hold, of which types."""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from tfrs_negatives._manifest import text_checksum

_Check: TypeAlias = Callable[[Any], bool]

#: Of a SavedModel, of one with a live index beside it, and of a query tower whose items
#: are in shards. Raised when an older tfrs_negatives could not load what this one
#: writes.
FORMAT, LIVE_FORMAT, TOWER_FORMAT = 3, 4, 5

#: Where the checksum of all other entries is.
CHECKSUM = "sha256"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_version(value: Any) -> bool:
    return (
        isinstance(value, str) and re.match(r"\d{1,9}(\.\d{1,9})*", value) is not None
    )


def _at_least(least: int) -> _Check:
    # A truth value is an int to Python.
    return lambda value: type(value) is int and value >= least


def _is_default(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, (bool, int, float)) and math.isfinite(value)
    )


def _is_scale(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and set(value) == {"centre", "scale"}
        and all(isinstance(one, float) for one in value.values())
        and all(map(math.isfinite, value.values()))
        and value["scale"] > 0
    )


def _is_spec(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _is_text(value.get("dtype"))
        and isinstance(value.get("shape"), list)
        and all(size is None or _at_least(0)(size) for size in value["shape"])
    )


def _is_checksum(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and _at_least(0)(value.get("bytes"))
        and isinstance(value.get("sha256"), str)
        and re.fullmatch("[0-9a-f]{64}", value["sha256"]) is not None
    )


def _is_inside(name: str) -> bool:
    """Whether a file's name stays in its folder: it may be deleted by this name."""
    return (
        bool(name)
        and "\0" not in name
        and name == posixpath.normpath(name)
        and not name.startswith(("/", "../"))
        and name not in (".", "..")
    )


def _dict_of(of_values: _Check, of_names: _Check = _is_text) -> _Check:
    return lambda value: (
        isinstance(value, dict)
        and all(map(of_names, value))
        and all(map(of_values, value.values()))
    )


# From the name to the check of its value, and what it should be. Others may be added.
_REQUIRED: Mapping[str, tuple[_Check, str]] = {
    "tfrs_negatives": (_is_version, "a version"),
    "tensorflow": (_is_version, "a version"),
    "index": (_is_text, "a name"),
    "candidates": (_at_least(1), "a whole number of at least 1"),
    "dimensions": (_at_least(1), "a whole number of at least 1"),
    "ids": (_is_text, "a dtype"),
    "k": (_at_least(1), "a whole number of at least 1"),
    "settings": (_dict_of(lambda _: True), "settings by name"),
    "query": (_dict_of(_is_spec), "dtypes and shapes by name"),
    "payload": (_dict_of(_is_text), "dtypes by name"),
    "options": (_dict_of(_is_default), "numbers, texts and truth values by name"),
    "files": (
        _dict_of(_is_checksum, _is_inside),
        "bytes and SHA-256 by names in the folder",
    ),
    CHECKSUM: (_is_text, "a SHA-256"),
}
_OPTIONAL: Mapping[str, tuple[_Check, str]] = {
    "scann": (_is_version, "a version"),
    "optional": (
        _dict_of(lambda value: isinstance(value, (list, str, int, float))),
        "rows by names of features",
    ),
    "users_with_history": (_at_least(0), "a whole number of at least 0"),
}

# Of an export with a live index.
_LIVE: Mapping[str, tuple[_Check, str]] = {
    "index_id": (_is_text, "an id"),
    "attributes": (_dict_of(_is_text), "kinds by name"),
    "items": _REQUIRED["files"],
}
_OF_SOME_LIVE: Mapping[str, tuple[_Check, str]] = {
    "popularity": (_is_scale, "a centre and a scale"),
    "history_feature": (_is_text, "a name"),
    "history_items": (_is_text, "a name"),
}

# Of a query tower, which says nothing of items but what users have.
_TOWER: Mapping[str, tuple[_Check, str]] = {
    **{
        name: check
        for name, check in _REQUIRED.items()
        if name not in ("index", "candidates", "ids", "settings", "payload")
    },
    "model_id": (_is_text, "an id"),
}


def problem(description: Mapping[str, Any]) -> str | None:
    """What is wrong with a description, or None."""
    required, known = _REQUIRED, {**_REQUIRED, **_OPTIONAL}
    if description["format"] == TOWER_FORMAT:
        required, known = _TOWER, {**_TOWER, **_OPTIONAL, **_OF_SOME_LIVE}
    if description["format"] == LIVE_FORMAT:
        required, known = {**_REQUIRED, **_LIVE}, {**known, **_LIVE, **_OF_SOME_LIVE}
    for name, (is_right, expected) in known.items():
        if name not in description:
            if name in required:
                return f"it lacks {name!r}, which should be {expected}"
        elif not is_right(description[name]):
            found = repr(description[name])[:80]
            return f"{name!r} should be {expected}, and is {found}"
    if description[CHECKSUM] != checksum(description):
        return "it has another SHA-256 than when it was written"
    return None


def checksum(description: Mapping[str, Any]) -> str:
    """SHA-256 of all entries but the checksum, however they are laid out."""
    covered = {name: one for name, one in description.items() if name != CHECKSUM}
    text = json.dumps(covered, sort_keys=True, separators=(",", ":"))
    return text_checksum(text)
