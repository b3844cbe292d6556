"""Changes of a live index, and their bytes in the log."""

from __future__ import annotations

import dataclasses
import json
import struct
from typing import Any, TypeAlias

import numpy as np


@dataclasses.dataclass(frozen=True)
class Upsert:
    """Items to add, or to put in the place of those with their ids.

    Attributes:
      ids: int or str, none twice.
      embeddings: `[N, d]` float32.
      payload: A list of N plain values by column.
      attributes: The same.
      source: Where it came from, as its caller calls it, or None.
    """

    ids: list[Any]
    embeddings: np.ndarray
    payload: dict[str, list[Any]]
    attributes: dict[str, list[Any]]
    source: str | None = None


@dataclasses.dataclass(frozen=True)
class Delete:
    """Items to take away. Ids that are not there do not matter.

    Attributes:
      ids: int or str, none twice.
      source: As of `Upsert`.
    """

    ids: list[Any]
    source: str | None = None


Change: TypeAlias = Upsert | Delete

# Bytes of the text before the embeddings.
_LENGTH = struct.Struct("<Q")


def encoded(change: Change) -> bytes:
    """The bytes of a change: a text in JSON, and embeddings as they are."""
    if isinstance(change, Delete):
        described: dict[str, Any] = {"delete": change.ids}
        raw = b""
    else:
        described = {
            "upsert": change.ids,
            "payload": change.payload,
            "attributes": change.attributes,
        }
        raw = change.embeddings.astype("<f4", copy=False).tobytes()
    if change.source is not None:
        described["source"] = change.source
    # ASCII, which also holds half of a surrogate pair.
    text = json.dumps(described, separators=(",", ":")).encode()
    return b"".join([_LENGTH.pack(len(text)), text, raw])


def decoded(data: bytes) -> Change:
    """The change that `encoded` made these bytes of."""
    (length,) = _LENGTH.unpack_from(data)
    end = _LENGTH.size + length
    described = json.loads(data[_LENGTH.size : end])
    if "delete" in described:
        return Delete(described["delete"], described.get("source"))
    ids = described["upsert"]
    embeddings = np.frombuffer(data, "<f4", offset=end)
    return Upsert(
        ids,
        embeddings.reshape(len(ids), -1) if ids else embeddings.reshape(0, 0),
        described["payload"],
        described["attributes"],
        described.get("source"),
    )
