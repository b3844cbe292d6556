"""Changes of the items that are served: from a request's JSON to the index."""

from __future__ import annotations

import json
import logging
from typing import Any

from tfrs_negatives.serving.model_version import ModelVersion
from tfrs_negatives.serving.request_error import RequestError, without_folders
from tfrs_negatives.serving.server_limits import Limits

_log = logging.getLogger(__name__)

#: What a change takes, by its name: fields that it needs, and others.
FIELDS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "upsert": (
        frozenset({"ids", "embeddings"}),
        frozenset({"payload", "attributes", "popularity"}),
    ),
    "delete": (frozenset({"ids"}), frozenset()),
}


def change_items(
    version: ModelVersion, kind: str, body: bytes, limits: Limits
) -> dict[str, int]:
    """Changes items of a version, all that a request names or none.

    When it returns, the change is on the disk, and the next query finds it.

    Args:
      version: `ModelVersion`.
      kind: "upsert" or "delete".
      body: The request's JSON.
      limits: `Limits`.

    Returns:
      How many items were "added" and "replaced", or "deleted".

    Raises:
      RequestError: The version's items cannot be changed, or the request is wrong;
        nothing has changed then. Or the disk fails.
    """
    model = version.live_model()
    fields = _parsed(kind, body, limits)
    try:
        if kind == "delete":
            return {"deleted": model.delete(fields["ids"])}
        added = model.upsert(**fields)
        return {"added": added, "replaced": len(fields["ids"]) - added}
    except ValueError as error:
        raise RequestError(without_folders(str(error))) from None
    except OSError as error:
        _log.exception("a change of items failed")
        raise RequestError(
            "The change could not be written, and may be there after a restart or not "
            f"({error.strerror or 'no more changes are taken'}). Mend the disk, and "
            "start the server again; it goes on answering.",
            "INTERNAL",
        ) from error


def _parsed(kind: str, body: bytes, limits: Limits) -> dict[str, Any]:
    # Parsing costs as much as there are values, and holds up all threads meanwhile.
    limits.check_values(sum(body.count(sign) for sign in (b",", b"[", b"{")))
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"Expected JSON, received something else: {error}") from None
    needed, others = FIELDS[kind]
    names = set(request) if isinstance(request, dict) else set()
    if not needed <= names or names - needed - others:
        may = f", and perhaps {', '.join(sorted(others))}" if others else ""
        shown = ", ".join(map(repr, sorted(names)[:9])) or "something else"
        raise RequestError(
            f"Expected a JSON object with {', '.join(sorted(needed))}{may}; received "
            f"{shown}."
        )
    if not isinstance(request["ids"], list):
        raise RequestError("`ids` must be a list.")
    return request
