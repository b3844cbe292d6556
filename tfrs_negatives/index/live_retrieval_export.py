"""Query tower and a live index as one folder."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives import _exports
from tfrs_negatives._export_schema import LIVE_FORMAT
from tfrs_negatives._keras import IS_KERAS_3
from tfrs_negatives.data.positives_of import Positives
from tfrs_negatives.index.export_folder import (
    target_of,
    write_atomically,
)
from tfrs_negatives.index.export_inputs import (
    INPUTS,
    OUTPUTS,
    Signature,
    check_default_k,
    check_history_items,
    check_names,
    checked_history_feature,
    described_features,
    described_rows,
    named_features,
    optional_rows,
    tower_of_features,
)
from tfrs_negatives.index.live.live_changes import Upsert
from tfrs_negatives.index.live.live_creation import checked_settings, write_first
from tfrs_negatives.index.live.live_schema import LiveSchema
from tfrs_negatives.index.live_query_functions import LiveQueryFunctions, UserItems
from tfrs_negatives.index.popularity_scale import PopularityScale, checked_log_q
from tfrs_negatives.index.saved_functions import resources_of, save_functions
from tfrs_negatives.index.shards.shard import check_popularity
from tfrs_negatives.types import PathLike, TensorLike, Tower
from tfrs_negatives.version import __version__

#: Dtypes in answers, by the kinds of a live index.
DTYPES = {"integer": "int64", "float": "float64", "string": "string"}


def export_live_retrieval(
    path: PathLike,
    query_tower: Tower,
    ids: Any,
    embeddings: TensorLike,
    *,
    query_signature: Signature,
    k: int = 10,
    payload: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
    kinds: Mapping[str, str] | None = None,
    popularity: TensorLike | None = None,
    histories: Positives | None = None,
    history_feature: str | None = None,
    history_items: str | None = None,
    optional_features: Mapping[str, Any] | None = None,
    rebuild_share: float = 0.2,
    approximate_from: int | None = 10_000,
    soar_lambda: float | None = None,
    overwrite: bool = False,
    versioned: bool = False,
) -> str:
    """Writes a query tower, and items that can change while they are served.

    The folder is a SavedModel of the tower, and holds a `LiveIndex` in its folder
    `items`. `load_retrieval` loads it as it does what `export_retrieval` wrote, with
    the same signatures, and `serving` answers by the same protocols. What is different:

    * `serving_default` and `with_exclusions` also take `where`, a filter over
      `attributes` for each row, or one for all `[1]`; left out, it is "", no filter.
    * Items are added, replaced and deleted: by `load_retrieval(path, writable=True)`,
      or through a server's admin endpoint.
    * No operation of ScaNN is in the SavedModel, so the package scann need not fit
      TensorFlow. It takes ids and embeddings, and no built index: a `BruteForce` or
      `ScaNN` of TensorFlow would not be part of it.
    * ids are int64 or strings. A `k` above the number of items is no error: rows end in
      scores of -inf.

    Args:
      path, query_tower, query_signature: As in `export_retrieval`.
      ids: `[N]` ids of the items: integers or strings.
      embeddings: `[N, d]` what the item tower returns.
      k: How many items a request without `k` gets.
      payload, attributes, kinds: As in `LiveIndex.create`.
      popularity: `[N]`, as in `export_retrieval`: with it requests take
        `popularity_discount`, and items that are added need their log q.
      histories, history_feature, history_items: As in `export_retrieval`: what a user
        has is left out. Ids in histories stay, whether the index has them or not.
      optional_features: As in `export_retrieval`.
      rebuild_share, approximate_from, soar_lambda: As in `LiveIndex.create`.
      overwrite: Whether to replace an earlier export at `path`. One whose items have
        changed since it was written, or are open for writing, never is.
      versioned: As in `export_retrieval`. A new version has the items that it was
        given, and no change that an earlier one has had.

    Returns:
      The absolute path of the folder.

    Raises:
      ValueError: As `export_retrieval` and `LiveIndex.create`. Nothing has then been
        written.
      OSError: If the folder cannot be written; an earlier export there stays whole.

    Example:
      >>> import tempfile
      >>> users = tf.keras.layers.StringLookup(vocabulary=["ann", "bob"])
      >>> tower = tf.keras.Sequential([users, tf.keras.layers.Embedding(3, 2)])
      >>> path = tn.index.export_live_retrieval(
      ...     tempfile.mkdtemp() + "/model",
      ...     tower,
      ...     ["lamp", "desk", "sofa"],
      ...     np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
      ...     query_signature=tf.TensorSpec([None], tf.string, name="user"),
      ...     attributes={"price": [20, 90, 400]},
      ... )
      >>> model = tn.index.load_retrieval(path, writable=True)
      >>> serve = model.signatures["serving_default"]
      >>> answer = serve(user=["ann"], k=2, where="price > 200")
      >>> answer["ids"].numpy().tolist()
      [[b'sofa', b'']]
      >>> model.upsert(["couch"], [[1.0, 1.0]], attributes={"price": [300]})
      1
      >>> sorted(serve(user=["ann"], k=2, where="price > 200")["ids"].numpy()[0])
      [b'couch', b'sofa']
      >>> model.release()
    """
    check_default_k(k)
    settings = checked_settings(rebuild_share, approximate_from, soar_lambda)
    schema, items = LiveSchema.of(ids, embeddings, payload, attributes, kinds)
    check_names("payload", payload or {}, OUTPUTS)
    options: dict[str, Any] = {"where": ""}
    scale = None
    if popularity is not None:
        options["popularity_discount"] = 0.0
        log_q = checked_log_q(popularity, len(items.ids))
        scale = PopularityScale.of(log_q, items.embeddings)
    if histories is not None or history_items is not None:
        options["exclude_history"] = True
    features = named_features(query_signature, (*INPUTS, *options))
    id_dtype = tf.as_dtype(DTYPES[schema.id_kind])
    check_popularity(features, popularity)
    history_feature = checked_history_feature(histories, history_feature, features)
    user_items = None
    if histories is not None and history_feature is not None:
        of_items = np.array(items.ids, object if id_dtype == tf.string else np.int64)
        spec = features[history_feature]
        user_items = UserItems(histories, history_feature, spec, of_items)
    check_history_items(history_items, features, id_dtype)
    left_out = optional_rows(optional_features or {}, features)
    path = target_of(path, overwrite, versioned)
    tower = tower_of_features(query_tower, query_signature, features)
    functions = LiveQueryFunctions(tower, features, user_items, schema.width)
    functions.module.resources = resources_of(query_tower)
    package = "keras" if IS_KERAS_3 else "tf-keras"
    metadata: dict[str, Any] = {
        "format": LIVE_FORMAT,
        "tfrs_negatives": __version__,
        "tensorflow": tf.__version__,
        package: importlib.metadata.version(package),
        "index": "LiveIndex",
        "candidates": len(items.ids),
        "dimensions": schema.width,
        "ids": id_dtype.name,
        "k": k,
        "settings": settings,
        "query": described_features(features),
        "payload": {name: DTYPES[kind] for name, kind in schema.payload.items()},
        "attributes": schema.attributes,
        "options": options,
    }
    if history_feature is not None:
        metadata["history_feature"] = history_feature
    if history_items is not None:
        metadata["history_items"] = history_items
    if user_items is not None:
        metadata["users_with_history"] = user_items.num_users
    if left_out:
        metadata["optional"] = described_rows(left_out)
    if scale is not None:
        metadata["popularity"] = {"centre": scale.centre, "scale": scale.scale}
        schema, items = _with_column(schema, items, scale.column(log_q))

    def save(folder: str) -> None:
        save_functions(functions.module, functions.signatures, folder, left_out)
        index_id = write_first(_exports.items_folder(folder), schema, items, settings)
        metadata["index_id"] = str(index_id)

    return write_atomically(
        path, save, metadata, overwrite=overwrite, versioned=versioned
    )


def _with_column(
    schema: LiveSchema, items: Upsert, column: np.ndarray
) -> tuple[LiveSchema, Upsert]:
    """Items that are one dimension wider."""
    wider = np.concatenate([items.embeddings, column[:, np.newaxis]], axis=1)
    return (
        LiveSchema(schema.id_kind, schema.width + 1, schema.payload, schema.attributes),
        Upsert(items.ids, wider, items.payload, items.attributes),
    )
