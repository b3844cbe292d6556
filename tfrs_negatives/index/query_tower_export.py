"""A query tower whose items are in shards, and what makes an export such a shard."""

from __future__ import annotations

import importlib.metadata
import uuid
from typing import Any

import tensorflow as tf

from tfrs_negatives import _exports
from tfrs_negatives._export_schema import TOWER_FORMAT
from tfrs_negatives._keras import IS_KERAS_3
from tfrs_negatives.data.positives_of import Positives
from tfrs_negatives.index.export_folder import (
    target_of,
    write_atomically,
)
from tfrs_negatives.index.export_inputs import (
    INPUTS,
    Signature,
    check_default_k,
    check_history_items,
    checked_history_feature,
    described_features,
    described_rows,
    named_features,
    optional_rows,
    tower_of_features,
)
from tfrs_negatives.index.live_query_functions import LiveQueryFunctions, UserItems
from tfrs_negatives.index.saved_functions import resources_of, save_functions
from tfrs_negatives.index.shards.shard import embeddings_input
from tfrs_negatives.types import PathLike, Tower
from tfrs_negatives.version import __version__


def export_query_tower(
    path: PathLike,
    query_tower: Tower,
    *,
    query_signature: Signature,
    k: int = 10,
    histories: Positives | None = None,
    history_feature: str | None = None,
    history_items: str | None = None,
    optional_features: dict[str, Any] | None = None,
    overwrite: bool = False,
    versioned: bool = False,
) -> str:
    """Writes the query tower of a corpus that is split into shards.

    Each shard is an export of its own, of some of the items, whose queries are
    embeddings: `shard_query` says what `export_live_retrieval` or `export_retrieval`
    need for that. Shards can be written one after the other, and on other machines.
    `load_retrieval(path, shards=[...])` joins them, as does `tfrs-negatives serve
    --shard`: the tower runs once a query, all shards search, and the best of what they
    find are the answer.

    The export has an id, by which its shards are known: one of another training is an
    error, where its answers would be nonsense.

    Args:
      path, query_tower, query_signature: As in `export_retrieval`. The width of the
        embeddings must be known when the tower is traced.
      k: How many items a request without `k` gets.
      histories, history_feature, history_items: As in `export_live_retrieval`. Ids in
        histories are left out of what every shard finds.
      optional_features, overwrite, versioned: As in `export_retrieval`.

    Returns:
      The absolute path of the folder.

    Raises:
      ValueError: As `export_retrieval`. Nothing has then been written.
      OSError: If the folder cannot be written; an earlier export there stays whole.

    Example:
      >>> import tempfile
      >>> folder = tempfile.mkdtemp()
      >>> users = tf.keras.layers.StringLookup(vocabulary=["ann", "bob"])
      >>> tower = tf.keras.Sequential([users, tf.keras.layers.Embedding(3, 2)])
      >>> front = tn.index.export_query_tower(
      ...     folder + "/front",
      ...     tower,
      ...     query_signature=tf.TensorSpec([None], tf.string, name="user"),
      ... )
      >>> query = tn.index.shard_query(front)
      >>> shards = [
      ...     tn.index.export_live_retrieval(
      ...         f"{folder}/shard-{n}", ids=ids, embeddings=np.eye(2), **query
      ...     )
      ...     for n, ids in enumerate([["lamp", "desk"], ["sofa", "stool"]])
      ... ]
      >>> model = tn.index.load_retrieval(
      ...     front, shards=[tn.index.load_retrieval(shard) for shard in shards]
      ... )
      >>> answer = model.signatures["serving_default"](user=["ann"], k=4)
      >>> sorted(answer["ids"].numpy()[0])
      [b'desk', b'lamp', b'sofa', b'stool']
      >>> answer["missing_shards"].numpy().tolist()
      [[]]
      >>> model.release()
    """
    check_default_k(k)
    options: dict[str, Any] = {}
    if histories is not None or history_items is not None:
        options["exclude_history"] = True
    # A feature cannot have the name of what shards may take.
    features = named_features(query_signature, (*INPUTS, *_exports.OPTIONS))
    history_feature = checked_history_feature(histories, history_feature, features)
    user_items, ids = None, None
    if histories is not None and history_feature is not None:
        spec = features[history_feature]
        user_items = UserItems(histories, history_feature, spec, None)
        ids = user_items.dtype
    if ids is None and history_items in features:
        dtype = features[history_items].dtype
        ids = dtype if dtype in (tf.int32, tf.int64, tf.string) else None
    check_history_items(history_items, features, ids)
    left_out = optional_rows(optional_features or {}, features)
    path = target_of(path, overwrite, versioned)
    tower = tower_of_features(query_tower, query_signature, features)
    functions = LiveQueryFunctions(tower, features, user_items, None)
    functions.module.resources = resources_of(query_tower)
    package = "keras" if IS_KERAS_3 else "tf-keras"
    metadata: dict[str, Any] = {
        "format": TOWER_FORMAT,
        "model_id": uuid.uuid4().hex,
        "tfrs_negatives": __version__,
        "tensorflow": tf.__version__,
        package: importlib.metadata.version(package),
        "dimensions": functions.width,
        "k": k,
        "query": described_features(features),
        "options": options,
    }
    if ids is not None:
        metadata["history_ids"] = ids.name
    if history_feature is not None:
        metadata["history_feature"] = history_feature
    if history_items is not None:
        metadata["history_items"] = history_items
    if user_items is not None:
        metadata["users_with_history"] = user_items.num_users
    if left_out:
        metadata["optional"] = described_rows(left_out)
    return write_atomically(
        path,
        lambda folder: save_functions(
            functions.module, functions.signatures, folder, left_out
        ),
        metadata,
        overwrite=overwrite,
        versioned=versioned,
    )


def shard_query(path: PathLike) -> dict[str, Any]:
    """What makes an export a shard: its queries are embeddings of one query tower.

    Args:
      path: A folder that `export_query_tower` wrote, or a folder of versions of it, of
        which the highest is taken.

    Returns:
      `query_tower` and `query_signature` for `export_live_retrieval` or
      `export_retrieval`. The name of the input holds the id of the tower's export, so
      that a shard takes no embeddings of another.

    Raises:
      ValueError: There is no such folder.

    Example:
      >>> import tempfile
      >>> front = tn.index.export_query_tower(
      ...     tempfile.mkdtemp() + "/front",
      ...     tf.keras.layers.Dense(4),
      ...     query_signature=tf.TensorSpec([None, 3]),
      ... )
      >>> query = tn.index.shard_query(front)
      >>> query["query_signature"].shape, query["query_signature"].name[:11]
      (TensorShape([None, 4]), 'embeddings_')
    """
    versions = _exports.find_versions(path)
    folder = versions[max(versions)] if versions else path
    description = _exports.read_description(folder)
    if not _exports.is_tower(description):
        raise ValueError(
            f"Expected a folder that `export_query_tower` wrote, received {folder!r}, "
            "which has items of its own. Export the query tower first."
        )
    name = embeddings_input(description["model_id"])
    shape = [None, description["dimensions"]]
    return {
        "query_tower": tf.identity,
        "query_signature": tf.TensorSpec(shape, tf.float32, name=name),
    }
