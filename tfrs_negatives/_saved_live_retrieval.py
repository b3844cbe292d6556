"""A loaded export whose items are a live index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfrs_negatives import _exports
from tfrs_negatives._live_signature import LiveSignature
from tfrs_negatives._saved_retrieval import SavedRetrieval, SavedSignature
from tfrs_negatives.index.live import LiveIndex
from tfrs_negatives.index.live.live_changes import Change
from tfrs_negatives.index.live.live_folder import LiveManifest, read_manifest
from tfrs_negatives.index.live.live_values import checked_matrix
from tfrs_negatives.index.popularity_scale import PopularityScale, checked_log_q
from tfrs_negatives.types import TensorLike

# By the dtypes of the description.
_KINDS = {"int64": "integer", "float64": "float", "string": "string"}


class SavedLiveRetrieval(SavedRetrieval):
    """What `export_live_retrieval` wrote, loaded: `load_retrieval` makes one.

    Attributes:
      path, description, signatures: As those of `SavedRetrieval`; "serving_default" and
        "with_exclusions" take `where`, too.
      items: The `LiveIndex`; with popularity, one dimension wider than the tower.
    """

    def __init__(
        self, path: str, description: dict[str, Any], model: Any, writable: bool
    ) -> None:
        self.path, self.description = path, description
        folder = _exports.items_folder(path)
        _check_manifest(folder, read_manifest(folder), description)
        self._model = model
        self.items = LiveIndex.open(folder, read_only=not writable)
        functions = dict(model.signatures)
        self.signatures = {
            "serving_default": LiveSignature(functions, self.items, description, False),
            "with_exclusions": LiveSignature(functions, self.items, description, True),
            "embed_query": SavedSignature(functions["embed_query"], description),
        }

    def __repr__(self) -> str:
        return (
            f"SavedLiveRetrieval(path={self.path!r}, items={self.items!r}, "
            f"ids={self.description['ids']!r}, default_k={self.description['k']})"
        )

    def upsert(
        self,
        ids: Any,
        embeddings: Any,
        payload: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        popularity: TensorLike | None = None,
    ) -> int:
        """Adds items, or replaces those that have these ids, whole.

        Args:
          ids, payload, attributes: As in `LiveIndex.upsert`.
          embeddings: `[N, d]`, of the item tower of the same training.
          popularity: `[N]` log q of the items, at most 0, where the export has
            popularity; there it is needed.

        Returns:
          How many of them are new.

        Raises:
          ValueError: Something does not fit; nothing has changed then.
          OSError: As `LiveIndex.upsert`.
        """
        return self.items.commit(
            self.checked_upsert(ids, embeddings, payload, attributes, popularity)
        )

    def checked_upsert(
        self,
        ids: Any,
        embeddings: Any,
        payload: Mapping[str, Any] | None = None,
        attributes: Mapping[str, Any] | None = None,
        popularity: TensorLike | None = None,
    ) -> Change:
        """What `upsert` would do, for `items.commit`; raises what it would."""
        described = self.description.get("popularity")
        if (described is None) != (popularity is None):
            expected = "none" if described is None else "log q of each item"
            received = "none" if popularity is None else "some"
            raise ValueError(
                f"`popularity` must be {expected}, as the export was "
                f"written{' without' if described is None else ' with it'}, received "
                f"{received}."
            )
        if described is not None:
            embeddings = checked_matrix(
                "embeddings", embeddings, self.description["dimensions"]
            )
            log_q = checked_log_q(
                np.asarray(popularity, np.float64), embeddings.shape[0]
            )
            column = PopularityScale(**described).column(log_q)
            embeddings = np.concatenate([embeddings, column[:, np.newaxis]], axis=1)
        return self.items.checked_upsert(ids, embeddings, payload, attributes)

    def delete(self, ids: Any) -> int:
        """Takes items away: see `LiveIndex.delete`."""
        return self.items.delete(ids)

    def refresh(self) -> int:
        """Brings what another process has written: see `LiveIndex.refresh`."""
        return self.items.refresh()

    def release(self) -> None:
        """Closes the index: nothing can be asked any more, and others may write."""
        self.items.close()


def _check_manifest(
    folder: str, manifest: LiveManifest, description: Mapping[str, Any]
) -> None:
    """Raises `ValueError` for an index that is not that of the export."""
    schema = manifest.schema
    found = {
        "index_id": str(manifest.index_id),
        "ids": schema.id_kind,
        "width": schema.width,
        "payload": schema.payload,
        "attributes": schema.attributes,
    }
    expected = {
        "index_id": description["index_id"],
        "ids": _KINDS.get(description["ids"]),
        "width": description["dimensions"] + ("popularity" in description),
        "payload": {n: _KINDS.get(d) for n, d in description["payload"].items()},
        "attributes": description["attributes"],
    }
    for name, value in expected.items():
        if found[name] != value:
            raise ValueError(
                f"{folder!r} is the index of another export: its {name} must be "
                f"{value!r}, received {found[name]!r}. Restore the whole export from a "
                "copy."
            )
