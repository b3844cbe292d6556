"""Query tower and index as one SavedModel."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import IS_KERAS_3
from tfrs_negatives.data.positives_of import Positives
from tfrs_negatives.index.excluded_histories import ExcludedHistories
from tfrs_negatives.index.export_folder import (
    check_target,
    next_version,
    write_atomically,
)
from tfrs_negatives.index.popularity_dial import PopularityDial, checked_log_q
from tfrs_negatives.index.retrieval_functions import RetrievalFunctions
from tfrs_negatives.index.searcher import Searcher
from tfrs_negatives.index.signature_defaults import set_default
from tfrs_negatives.index.top_k import TopK
from tfrs_negatives.types import Features, PathLike, TensorLike, Tower
from tfrs_negatives.version import __version__

_INPUTS = ("k", "exclusions")
_OUTPUTS = ("ids", "scores")


def export_retrieval(
    path: PathLike,
    query_tower: Tower,
    index: TopK,
    *,
    query_signature: tf.TensorSpec | dict[str, tf.TensorSpec],
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
    features = _named_features(query_signature, (*_INPUTS, *options))
    user_histories = _user_histories(histories, history_feature, features, searcher)
    _check_history_items(history_items, features, searcher)
    left_out = _optional_rows(optional_features or {}, features)
    columns = _payload_columns(payload or {}, searcher.num_rows)
    if versioned and overwrite:
        raise ValueError(
            "`versioned` writes a new version and replaces none, received "
            "overwrite=True too. Leave one out."
        )
    path = check_target(next_version(path) if versioned else path, overwrite)
    tower = query_tower
    if isinstance(query_signature, tf.TensorSpec):
        (single,) = features

        def tower(inputs: Features) -> tf.Tensor:
            return query_tower(inputs[single])

    dial = None
    if popularity is not None:
        dial = PopularityDial(log_q, searcher)
        searcher = index.searcher_with(dial)
    functions = RetrievalFunctions(
        tower, searcher, features, columns, dial, user_histories, history_items
    )
    functions.module.resources = _resources(query_tower)
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
        "query": {
            name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
            for name, spec in features.items()
        },
        "payload": {name: column.dtype.name for name, column in columns.items()},
        # What a request without the input gets.
        "options": {name: value.numpy().item() for name, value in options.items()},
    }
    if user_histories is not None:
        metadata["users_with_history"] = user_histories.num_users
    if left_out:
        metadata["optional"] = {
            name: _plain(np.asarray(row.numpy()[0]).tolist())
            for name, row in left_out.items()
        }
    defaults = {"k": tf.constant(index.default_k(), tf.int32), **options, **left_out}
    return write_atomically(
        path,
        lambda folder: _save(functions, folder, defaults),
        metadata,
        overwrite=overwrite,
        versioned=versioned,
    )


def _named_features(
    query_signature: tf.TensorSpec | dict[str, tf.TensorSpec], taken: Collection[str]
) -> dict[str, tf.TensorSpec]:
    """The signature as a dict from name to `tf.TensorSpec`."""
    features = query_signature
    if isinstance(features, tf.TensorSpec):
        features = {features.name or "query": features}
    if not isinstance(features, dict) or not features:
        raise ValueError(
            "`query_signature` must be a tf.TensorSpec or a non-empty dict of them, "
            f"received {query_signature!r}."
        )
    for name, spec in features.items():
        if not isinstance(spec, tf.TensorSpec) or not spec.shape.rank or spec.shape[0]:
            raise ValueError(
                f"`query_signature` needs a tf.TensorSpec with first dimension None "
                f"for {name!r}, received {spec!r}."
            )
    _check_names("query_signature", features, taken)
    return {
        name: tf.TensorSpec(spec.shape, spec.dtype, name=name)
        for name, spec in features.items()
    }


def _user_histories(
    histories: Positives | None,
    history_feature: str | None,
    features: dict[str, tf.TensorSpec],
    searcher: Searcher,
) -> ExcludedHistories | None:
    """The table of what users have, under its feature."""
    if histories is None:
        if history_feature is not None:
            raise ValueError(
                f"`history_feature` is {history_feature!r} without `histories`. Pass "
                "what `data.positives_of` returns, or leave both out."
            )
        return None
    if not isinstance(histories, Positives):
        raise ValueError(
            "`histories` must be what `data.positives_of` returns, received "
            f"{type(histories).__name__}. Pass it the table of users and items."
        )
    if history_feature is None and len(features) == 1:
        (history_feature,) = features
    if history_feature not in features:
        raise ValueError(
            "`history_feature` must name the feature with the users' ids, one of "
            f"{', '.join(features)}, received {history_feature!r}."
        )
    spec = features[history_feature]
    return ExcludedHistories(histories, searcher.identifiers, history_feature, spec)


def _check_history_items(
    history_items: str | None, features: dict[str, tf.TensorSpec], searcher: Searcher
) -> None:
    if history_items is None:
        return
    spec = features.get(history_items)
    ids = searcher.identifiers.dtype
    if spec is None or spec.shape.rank != 2 or spec.dtype != ids:
        received = "none of that name" if spec is None else f"{spec!r}"
        raise ValueError(
            f"`history_items` must name a feature of items' ids, {ids.name} of shape "
            f"[None, None], received {history_items!r}, {received}."
        )


def _optional_rows(
    optional: Mapping[str, Any], features: dict[str, tf.TensorSpec]
) -> dict[str, tf.Tensor]:
    """The rows that stand for what requests leave out, [1, ...] each."""
    rows = {}
    for name, row in optional.items():
        spec = features.get(name)
        try:
            if spec is None:
                raise ValueError("there is no such feature")
            value = tf.constant([row], spec.dtype)
            if not spec.shape.is_compatible_with(value.shape):
                raise ValueError(f"expected shape {spec.shape}")
        except (TypeError, ValueError) as error:
            raise ValueError(
                "`optional_features` must have a row of a feature of "
                f"`query_signature`, received {name!r}: {row!r} "
                f"({str(error).splitlines()[0]})."
            ) from error
        rows[name] = value
    if len(rows) == len(features):
        raise ValueError(
            "`optional_features` must leave a feature that says how many rows there "
            f"are, received all of them: {', '.join(rows)}."
        )
    return rows


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value


def _payload_columns(
    payload: Mapping[str, TensorLike], num_rows: int
) -> dict[str, tf.Tensor]:
    """The payload as a dict from name to tensor."""
    _check_names("payload", payload, _OUTPUTS)
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


def _check_names(argument: str, names: Iterable[str], taken: Collection[str]) -> None:
    for name in names:
        if name in taken or not (isinstance(name, str) and name.isidentifier()):
            raise ValueError(
                f"`{argument}` has a column {name!r}: names must be identifiers other "
                f"than {', '.join(taken)}, which the signatures use. Rename it."
            )


def _resources(query_tower: Tower) -> list[Any]:
    """Lookup tables and other resources that the tower holds, at any depth."""
    holders = [query_tower, getattr(query_tower, "__self__", None)]
    if inspect.isfunction(query_tower):
        used = inspect.getclosurevars(query_tower)
        holders += [*used.nonlocals.values(), *used.globals.values()]
    return [
        child
        for holder in holders
        if isinstance(holder, tf.__internal__.tracking.Trackable)
        for child in tf.train.TrackableView(holder).descendants()
        if isinstance(child, tf.saved_model.experimental.TrackableResource)
    ]


def _save(
    functions: RetrievalFunctions, folder: str, defaults: dict[str, tf.Tensor]
) -> None:
    try:
        tf.saved_model.save(
            functions.module,
            folder,
            signatures=functions.signatures,
            options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]),
        )
    except AssertionError as error:
        if "untracked" not in str(error):
            raise
        raise ValueError(
            "`query_tower` uses a lookup table that no Keras object or tf.Module "
            "holds. Pass the model or module that has the table as an attribute."
        ) from error
    for name, value in defaults.items():
        set_default(folder, name, value)
