"""Loading what the exports of `index` wrote, without Keras."""

from __future__ import annotations

import importlib.metadata
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfrs_negatives import _exports
from tfrs_negatives.types import PathLike, TensorLike

if TYPE_CHECKING:
    import tensorflow as tf


class SavedRetrieval:
    """A loaded export: `load_retrieval` makes one.

    Attributes:
      path: The folder of the export.
      description: Dict: versions, number and width of the candidates, dtype of the
        ids, k of the index, its settings, query features, payload, files.
      signatures: Dict from "serving_default", "with_exclusions" and "embed_query" to
        functions of keyword tensors; see `export_retrieval`. Without `k` they take
        that of the index; `popularity_discount` and `exclude_history`, where the export
        has them, may be left out too, or be one number and one bool.
    """

    def __init__(self, path: str, description: dict[str, Any], model: Any) -> None:
        self.path, self.description = path, description
        self.signatures: dict[str, Any] = {
            name: SavedSignature(function, description)
            for name, function in model.signatures.items()
        }
        self._model = model

    def __repr__(self) -> str:
        description = self.description
        return (
            f"SavedRetrieval(path={self.path!r}, index={description['index']!r}, "
            f"num_items={description['candidates']}, "
            f"width={description['dimensions']}, ids={description['ids']!r}, "
            f"default_k={description['k']})"
        )

    def release(self) -> None:
        """Frees what the process, not this object, keeps of a ScaNN index.

        The next query makes it again.
        """
        self._model.release()


class SavedSignature:
    """A signature, a concrete function, some of whose inputs may be left out.

    Args:
      function: The concrete function.
      description: That of the export.

    Attributes:
      inputs: Dict from name to `tf.TensorSpec`.
    """

    def __init__(self, function: Any, description: Mapping[str, Any]) -> None:
        import tensorflow as tf

        self._function = function
        _, self.inputs = function.structured_input_signature
        # Exports of earlier versions have no options.
        self._options = {
            name: tf.constant([value])
            for name, value in description.get("options", {}).items()
            if name in self.inputs
        }
        self._optional = {
            name: tf.constant([row], self.inputs[name].dtype)
            for name, row in description.get("optional", {}).items()
            if name in self.inputs
        }
        self._k = {}
        if "k" in self.inputs:
            self._k["k"] = tf.constant(description["k"], tf.int32)

    @property
    def defaults(self) -> dict[str, Any]:
        """The rows that stand for features that a request leaves out, as arrays."""
        return {name: row.numpy() for name, row in self._optional.items()}

    @property
    def outputs(self) -> dict[str, tf.TensorSpec]:
        """Dict from name to `tf.TensorSpec`."""
        import tensorflow as tf

        return {
            name: tf.TensorSpec(output.shape, output.dtype, name)
            for name, output in self._function.structured_outputs.items()
        }

    def __call__(self, **inputs: TensorLike) -> dict[str, tf.Tensor]:
        unknown = _exports.unknown_option(inputs, self.inputs)
        if unknown:
            raise ValueError(
                f"Expected the inputs {', '.join(sorted(self.inputs))}, received "
                f"{', '.join(sorted(inputs))}.{unknown}"
            )
        for name in self._options.keys() & inputs.keys():
            inputs[name] = as_vector(name, inputs[name], self._options[name].dtype)
        return self._function(
            **{**self._k, **self._options, **self._optional, **inputs}
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)


def as_vector(name: str, value: TensorLike, dtype: tf.DType) -> tf.Tensor:
    """One value, or one for each row, as a vector.

    Raises:
      ValueError: It is neither.
    """
    import tensorflow as tf

    try:
        if getattr(value, "dtype", None) == tf.float64:
            value = tf.cast(value, dtype)  # NumPy's own floats.
        # TensorFlow would take True as 1.
        no_number = isinstance(value, bool) and dtype != tf.bool
        vector = None if no_number else tf.convert_to_tensor(value, dtype)
    except (TypeError, ValueError):
        vector = None
    if vector is None or vector.shape.rank not in (0, 1):
        raise ValueError(
            f"`{name}` must be one {dtype.name} or a vector of one per query, received "
            f"{value!r}."
        )
    return vector if vector.shape.rank else tf.reshape(vector, [1])


def load_retrieval(
    path: PathLike,
    *,
    writable: bool = False,
    shards: Sequence[Any] = (),
    shard_seconds: float = 1.0,
) -> SavedRetrieval:
    """Loads an export, once everything about it was found to be in order.

    Load only what you trust: a SavedModel is a program, whose initialisers can read
    and write files while it loads. The checksums tell of damage, not of intent.

    Args:
      path: A folder that `export_retrieval`, `export_live_retrieval` or
        `export_query_tower` wrote, or a folder of versions of it, of which the highest
        is taken.
      writable: Whether its items are to be changed, which `export_live_retrieval` makes
        possible. One process at a time may; others load it without, and `refresh`.
      shards: Of what `export_query_tower` wrote, where its items are, one each: what
        `load_retrieval` returned, for a shard in this process; the address of a server
        of it, "host:port" of gRPC, or several that serve the same, with commas; or a
        `serving.RemoteShard`.
      shard_seconds: How long a query waits for shards. Those that have not answered
        are missing from the answer, whose output `missing_shards` says which.

    Returns:
      `SavedRetrieval`. What `export_live_retrieval` wrote has `items`, a `LiveIndex`,
      and `upsert`, `delete` and `refresh` too.

    Raises:
      ValueError: No export there; a file that is missing, truncated or changed; an
        export written with a later TensorFlow or ScaNN than are installed; items that
        cannot be changed, or that another process writes; no shards where there should
        be some, or the other way round; shards of another model, or that are not alike.
      ImportError: scann is missing or does not fit TensorFlow, for a ScaNN index.
      OSError: No shard can be reached.
    """
    versions = _exports.find_versions(path)
    folder = versions[max(versions)] if versions else os.fspath(path)
    description = _exports.read_description(folder)
    if writable and not _exports.is_live(description):
        raise ValueError(
            f"The items of {folder!r} are part of its SavedModel, and cannot be "
            "changed: expected an export of `export_live_retrieval`. Write one, or "
            "load this without writable=True."
        )
    if _exports.is_tower(description) != bool(shards):
        has = "in shards" if _exports.is_tower(description) else "in the export itself"
        raise ValueError(
            f"The items of {folder!r} are {has}, received {len(shards)} shards. Name "
            "its shards by `shards` (of a server: --shard) where there are some, and "
            "only there."
        )
    _exports.check_files(folder, description)
    import tensorflow as tf

    _check_version(folder, description, "tensorflow", tf.__version__)
    if "scann" in description:
        _import_scann(folder, description)
    try:
        model = tf.saved_model.load(folder)
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ValueError(
            f"TensorFlow {tf.__version__} cannot load the export {folder!r}, written "
            f"with TensorFlow {description['tensorflow']} "
            f"({str(error).splitlines()[0]}). Load it there, or export it again."
        ) from error
    if _exports.is_live(description):
        from tfrs_negatives._saved_live_retrieval import SavedLiveRetrieval

        return SavedLiveRetrieval(folder, description, model, writable)
    if _exports.is_tower(description):
        from tfrs_negatives._saved_sharded_retrieval import SavedShardedRetrieval

        return SavedShardedRetrieval(folder, description, model, shards, shard_seconds)
    return SavedRetrieval(folder, description, model)


def _check_version(
    folder: str, description: Mapping[str, Any], package: str, installed: str
) -> None:
    """Refuses a package that is older than the one that wrote the export."""
    written = description[package]
    if _numbers(installed) < _numbers(written):
        raise ValueError(
            f"The export {folder!r} was written with {package} {written}, and "
            f"{package} {installed} is installed. Install {package} {written} or "
            "later, or export it again with what is installed."
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Major and minor: patches neither add operations nor change them."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _import_scann(folder: str, description: Mapping[str, Any]) -> None:
    from tfrs_negatives._scann_ops import scann_ops

    try:
        scann_ops()
    except ImportError as error:
        raise ImportError(
            f"The index in {folder!r} was written with scann {description['scann']} "
            f"and TensorFlow {description['tensorflow']}. {error}"
        ) from error
    installed = importlib.metadata.version("scann")
    _check_version(folder, description, "scann", installed)
