"""Query tower and index as one SavedModel."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from tfrs_negatives._keras import IS_KERAS_3
from tfrs_negatives.data.positives_of import Positives
from tfrs_negatives.index.excluded_histories import ExcludedHistories
from tfrs_negatives.index.export_folder import (
    target_of,
    write_atomically,
)
from tfrs_negatives.index.export_inputs import (
    INPUTS,
    OUTPUTS,
    Signature,
    check_history_items,
    check_names,
    checked_history_feature,
    described_features,
    described_rows,
    named_features,
    optional_rows,
    tower_of_features,
)
from tfrs_negatives.index.popularity_dial import PopularityDial
from tfrs_negatives.index.popularity_scale import checked_log_q
from tfrs_negatives.index.retrieval_functions import RetrievalFunctions
from tfrs_negatives.index.saved_functions import resources_of, save_functions
from tfrs_negatives.index.shards.shard import check_popularity
from tfrs_negatives.index.top_k import TopK
from tfrs_negatives.types import PathLike, TensorLike, Tower
from tfrs_negatives.version import __version__


def export_retrieval(
    path: PathLike,
    query_tower: Tower,
    index: TopK,
    *,
    query_signature: Signature,
    payload: Mapping[str, TensorLike] | None = None,
    popularity: TensorLike | None = None,
    histories: Positives | None = None,
    history_feature: str | None = None,
    history_items: str | None = None,
    optional_features: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    versioned: bool = False,
) -> str:
    """Writes a SavedModel that goes from raw query features to candidates.

    `load_retrieval` loads it, after checks, and `tf.saved_model.load` does in a
    process that has only TensorFlow (and, for a `ScaNN` index, has run
    `from scann import scann_ops`, which registers ScaNN's operations).
    Its signatures take keyword tensors, the features named as in `query_signature`:

    * `serving_default(<features>, k)` -> `ids` `[B, k]`, `scores` `[B, k]` float32 in
      descending order, and each payload column `[B, k]`; `k` is a scalar int32.
    * `with_exclusions(<features>, k, exclusions)` -> the same without the ids in
      `exclusions` `[B, E]`, E of any size. Each of them counts: fill short rows with a
      repeat, or with what is no candidate's id.
    * `embed_query(<features>)` -> `embeddings` `[B, d]` float32.

    With `popularity` these two signatures also take `popularity_discount` float32,
    beta, one for each row or one for all `[1]`: they rank by, and return,
    `score - beta * log q(candidate)`, exactly so with `BruteForce`. Where scores are
    log p(candidate | query) up to a constant of the query, as a model with full log-Q
    correction learns them, beta = 0 ranks by probability and 1 by lift (post-hoc logit
    adjustment; Menon et al., "Long-tail learning via logit adjustment", ICLR 2021).
    Scores must then be the logits of the loss: for a task with a temperature let the
    tower divide its embeddings by it. Left out, beta is 0.

    With `histories` or `history_items` they also take `exclude_history` bool, one for
    each row or one for all `[1]`, and leave out what the row's user has. Left out, it
    is True. The items in `exclusions` are left out either way.

    `k` may be left out, and is then the index's own, where `load_retrieval` loads the
    model or `serving` answers, and with TensorFlow Serving over gRPC; so may the two
    inputs above. TensorFlow Serving's REST and `tf.saved_model.load` ask for all.

    Where fewer than k candidates are left, a row ends in scores of -inf, by which
    alone it is known; beside them the id is -1 or "" and the payload zero or empty.

    Args:
      path: The folder to write. Either all of it appears or none; the folder
        `assets.extra` holds `tfrs_negatives.json` with versions, settings and the
        checksums of all files.
      query_tower: Keras layer or model, `tf.Module`, or a function or method that
        uses some, from the features (a tensor, or a dict) to embeddings `[B, d]`.
        It is traced for inference.
      index: A built `BruteForce` or `ScaNN`.
      query_signature: What the tower takes: a `tf.TensorSpec` with batch dimension
        None for one tensor (its `name`, or else "query", becomes the keyword), or a
        dict of them for a dict of tensors.
      payload: Dict from name to one value per candidate (`[N]`, or `[N, ...]`), in
        the order of the candidates given to `index.index`.
      popularity: `[N]`, in the order of the candidates given to `index.index`: log q
        (floating-point numbers, at most 0, e.g. of `layers.StaticFrequency`), or counts
        (integers), of which 0 is taken as 1. It becomes one more dimension of the
        candidates, so that a `ScaNN` is trained again, and holds them a second time
        meanwhile; a `recall_target` is reached over the discounts 0, .5 and 1, and
        needs `sample_queries` of `index.index`.
      histories: The items of each user, as `data.positives_of` lists them. Users
        without any get all candidates; items that are no candidates do not matter.
      history_feature: Which feature has the users' ids, `[None]`, as in the table of
        `histories`. May be left out where the tower takes only one.
      history_items: Which feature has the ids of items that a request says that its
        user has, `[None, None]`; they are left out as those in `histories` are.
      optional_features: Dict from features that requests may leave out to the row that
        stands in their place, one for all: `[]` for no ids. Their first dimension may
        be 1, which stands for all rows, so the tower has to broadcast it.
      overwrite: Whether to replace an earlier export at `path`. Nothing else is ever
        replaced: neither other folders, nor exports to which files were added or whose
        files were changed.
      versioned: Whether to write a new version under `path`, as TensorFlow Serving
        expects: `path/1`, or one more than the highest number there when it is
        whole. Servers that watch `path` then load it.

    Returns:
      The absolute path of the SavedModel.

    Raises:
      ValueError: for an index that is not built or does not fit the tower, a
        signature without batch dimension, payload or popularity of another length,
        popularity that is not finite, positive log q, an index of rounded candidates
        (`storage="int8"`) with `popularity`, histories that do not fit the index or
        the feature, names that collide, and a path that is taken. Nothing has then
        been written.
      OSError: if the folder cannot be written; an earlier export there stays whole.
    """
    if not isinstance(index, TopK):
        raise ValueError(
            "`index` must be a BruteForce or ScaNN of tfrs_negatives.index, received "
            f"{type(index).__name__}."
        )
    searcher = index.searcher
    options = {}
    if popularity is not None:
        options["popularity_discount"] = tf.constant([0.0])
        log_q = checked_log_q(popularity, searcher.num_rows)
    if histories is not None or history_items is not None:
        options["exclude_history"] = tf.constant([True])
    features = named_features(query_signature, (*INPUTS, *options))
    user_histories = None
    check_popularity(features, popularity)
    history_feature = checked_history_feature(histories, history_feature, features)
    if histories is not None and history_feature is not None:
        user_histories = ExcludedHistories(
            histories,
            searcher.identifiers,
            history_feature,
            features[history_feature],
        )
    check_history_items(history_items, features, searcher.identifiers.dtype)
    left_out = optional_rows(optional_features or {}, features)
    columns = _payload_columns(payload or {}, searcher.num_rows)
    path = target_of(path, overwrite, versioned)
    tower = tower_of_features(query_tower, query_signature, features)
    dial = None
    if popularity is not None:
        dial = PopularityDial(log_q, searcher)
        searcher = index.searcher_with(dial)
    functions = RetrievalFunctions(
        tower, searcher, features, columns, dial, user_histories, history_items
    )
    functions.module.resources = resources_of(query_tower)
    packages = ["keras" if IS_KERAS_3 else "tf-keras"]
    if not index.is_exact():
        packages.append("scann")
    metadata = {
        "tfrs_negatives": __version__,
        "tensorflow": tf.__version__,
        **{package: importlib.metadata.version(package) for package in packages},
        "index": type(index).__name__,
        "candidates": searcher.num_rows,
        "dimensions": index.searcher.width,
        "ids": searcher.identifiers.dtype.name,
        "k": index.default_k(),
        "settings": searcher.settings(),
        "query": described_features(features),
        "payload": {name: column.dtype.name for name, column in columns.items()},
        # What a request without the input gets.
        "options": {name: value.numpy().item() for name, value in options.items()},
    }
    if user_histories is not None:
        metadata["users_with_history"] = user_histories.num_users
    if left_out:
        metadata["optional"] = described_rows(left_out)
    defaults = {"k": tf.constant(index.default_k(), tf.int32), **options, **left_out}
    return write_atomically(
        path,
        lambda folder: save_functions(
            functions.module, functions.signatures, folder, defaults
        ),
        metadata,
        overwrite=overwrite,
        versioned=versioned,
    )


def _payload_columns(
    payload: Mapping[str, TensorLike], num_rows: int
) -> dict[str, tf.Tensor]:
    """The payload as a dict from name to tensor."""
    check_names("payload", payload, OUTPUTS)
    columns = {}
    for name, values in payload.items():
        try:
            column = tf.convert_to_tensor(values)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"`payload` {name!r} must be an array of numbers or strings, none "
                f"missing: {error}"
            ) from error
        if column.shape.rank == 0 or column.shape[0] != num_rows:
            raise ValueError(
                f"`payload` {name!r} must have one value per indexed candidate "
                f"({num_rows}), received shape {column.shape}."
            )
        columns[name] = column
    return columns
