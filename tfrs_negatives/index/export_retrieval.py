"""Query tower and index as one SavedModel."""

from __future__ import annotations

import importlib.metadata
import inspect
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import tensorflow as tf

from tfrs_negatives._keras import IS_KERAS_3
from tfrs_negatives.index.export_folder import (
    check_target,
    next_version,
    write_atomically,
)
from tfrs_negatives.index.scann_searcher import ScannSearcher
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

    `k` may be left out, and is then the index's own, where `load_retrieval` loads the
    model or `serving` answers, and with TensorFlow Serving over gRPC. Its REST and
    `tf.saved_model.load` ask for it.

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
        signature without batch dimension, payload of another length, names that
        collide, and a path that is taken. Nothing has then been written.
      OSError: if the folder cannot be written; an earlier export there stays whole.
    """
    if not isinstance(index, TopK):
        raise ValueError(
            "`index` must be a BruteForce or ScaNN of tfrs_negatives.index, received "
            f"{type(index).__name__}."
        )
    searcher = index.searcher
    features = _named_features(query_signature)
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

    module, signatures = _build_module(tower, searcher, features, columns)
    module.resources = _resources(query_tower)
    packages = ["keras" if IS_KERAS_3 else "tf-keras"]
    if not index.is_exact():
        packages.append("scann")
    metadata = {
        "tfrs_negatives": __version__,
        "tensorflow": tf.__version__,
        **{package: importlib.metadata.version(package) for package in packages},
        "index": type(index).__name__,
        "candidates": searcher.num_rows,
        "dimensions": searcher.width,
        "ids": searcher.identifiers.dtype.name,
        "k": index.default_k(),
        "settings": searcher.settings(),
        "query": {
            name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
            for name, spec in features.items()
        },
        "payload": {name: column.dtype.name for name, column in columns.items()},
    }
    return write_atomically(
        path,
        lambda folder: _save(module, folder, signatures, index.default_k()),
        metadata,
        overwrite=overwrite,
        versioned=versioned,
    )


def _named_features(
    query_signature: tf.TensorSpec | dict[str, tf.TensorSpec],
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
    _check_names("query_signature", features, _INPUTS)
    return {
        name: tf.TensorSpec(spec.shape, spec.dtype, name=name)
        for name, spec in features.items()
    }


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


def _build_module(
    tower: Tower,
    searcher: Searcher,
    features: dict[str, tf.TensorSpec],
    columns: dict[str, tf.Tensor],
) -> tuple[tf.Module, dict[str, Callable[..., Any]]]:
    """A module that tracks all state, and its three traced signatures."""
    module = tf.Module()
    module.searcher = searcher
    module.payload = {
        name: tf.Variable(column, trainable=False, name=name)
        for name, column in columns.items()
    }

    call_tower = tf.function(tower)

    def embed(inputs: Features) -> tf.Tensor:
        try:
            embeddings = call_tower({name: inputs[name] for name in features})
        except (LookupError, TypeError, ValueError) as error:
            raise ValueError(
                f"`query_tower` fails on the features {sorted(features)} of "
                "`query_signature` (see the error above). A tower that takes one "
                "tensor needs a tf.TensorSpec, one that takes a dict a dict of them."
            ) from error
        if not tf.is_tensor(embeddings):
            raise ValueError(
                "`query_tower` must return one tensor of embeddings, received "
                f"{type(embeddings).__name__}."
            )
        return embeddings

    def answer(scores: tf.Tensor, positions: tf.Tensor) -> dict[str, tf.Tensor]:
        found = positions >= 0
        outputs = {"ids": searcher.identifiers.gather(positions), "scores": scores}
        for name, column in module.payload.items():
            values = tf.gather(column, tf.maximum(positions, 0))
            shape = tf.concat(
                [tf.shape(found), tf.ones([values.shape.rank - 2], tf.int32)], axis=0
            )
            empty = tf.zeros([], values.dtype)
            outputs[name] = tf.where(tf.reshape(found, shape), values, empty)
        return outputs

    # The tower may need autograph; our functions do without, for one-line errors.
    @tf.function(autograph=False)
    def embed_query(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embeddings": tf.cast(embed(inputs), tf.float32)}

    @tf.function(autograph=False)
    def serve(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(*searcher.retrieve(embed(inputs), inputs["k"]))

    @tf.function(autograph=False)
    def serve_excluding(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        excluded = searcher.identifiers.positions_of_exclusions(inputs["exclusions"])
        return answer(*searcher.retrieve(embed(inputs), inputs["k"], excluded))

    k = tf.TensorSpec([], tf.int32, name="k")
    exclusions = tf.TensorSpec(
        [None, None], searcher.identifiers.dtype, name="exclusions"
    )
    with searcher.traced_for_export():
        signatures = {
            "serving_default": serve.get_concrete_function(**features, k=k),
            "with_exclusions": serve_excluding.get_concrete_function(
                **features, k=k, exclusions=exclusions
            ),
            "embed_query": embed_query.get_concrete_function(**features),
        }
        # Traced here, since another trace would name another resource.
        release = tf.function(lambda: _release(searcher))
        module.release = release.get_concrete_function()
    # Tracked one by one, the variables of the tower come without the Python class
    # of the tower, and without the functions that Keras would trace for it.
    module.weights = [
        variable
        for function in signatures.values()
        for variable in function.graph.variables
    ]
    return module, signatures


def _release(searcher: Searcher) -> None:
    """Destroys what ScaNN keeps in the process, which outlives the loaded model."""
    if isinstance(searcher, ScannSearcher):
        handle = searcher._make_resource()
        tf.raw_ops.DestroyResourceOp(resource=handle, ignore_lookup_error=True)


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
    module: tf.Module,
    folder: str,
    signatures: dict[str, Callable[..., Any]],
    default_k: int,
) -> None:
    try:
        tf.saved_model.save(
            module,
            folder,
            signatures=signatures,
            options=tf.saved_model.SaveOptions(namespace_whitelist=["Scann"]),
        )
    except AssertionError as error:
        if "untracked" not in str(error):
            raise
        raise ValueError(
            "`query_tower` uses a lookup table that no Keras object or tf.Module "
            "holds. Pass the model or module that has the table as an attribute."
        ) from error
    set_default(folder, "k", tf.constant(default_k, tf.int32))
