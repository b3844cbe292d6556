"""A tower that was saved: from columns of a table to embeddings."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf

from tfrs_negatives._scann_ops import scann_ops

#: What the embeddings are called where a signature has several outputs.
_OUTPUT = "embeddings"


@dataclasses.dataclass(frozen=True)
class SavedTower:
    """A signature of a SavedModel, from features `[B]` or `[B, n]` to `[B, d]`.

    Workers get the path, and load the model once each.

    Attributes:
      path: The SavedModel, at a path that all workers have.
      signature: Name of the signature.
      state: What tells this model from another at its path.
    """

    path: str
    signature: str
    state: str

    @classmethod
    def found(cls, path: str, signature: str) -> SavedTower:
        """The tower, which is loaded and looked at.

        Raises:
          ValueError: No SavedModel, no such signature, or one that is no tower.
          ImportError: It holds ScaNN's operations, which cannot be loaded.
        """
        try:
            fingerprint = tf.saved_model.experimental.read_fingerprint(path)
        except Exception as error:  # TensorFlow's own kinds of it.
            raise ValueError(
                f"Expected a SavedModel of a tower, received {path!r}, which is none. "
                "Write it with `tf.saved_model.save` or Keras's `model.export`."
            ) from error
        tower = cls(path, signature, fingerprint.singleprint())
        function = _loaded(tower)
        for name, spec in tower.inputs().items():
            if spec.shape.rank not in (1, 2):
                raise ValueError(
                    f"Signature {signature!r} of {path!r} must take features of shape "
                    f"[rows] or [rows, n], received {spec.shape} for {name!r}. Save "
                    "one that does."
                )
        output = function.structured_outputs[_output(function)]
        if output.shape.rank != 2 or not output.dtype.is_floating:
            raise ValueError(
                f"Signature {signature!r} of {path!r} must return embeddings [rows, d],"
                f" received {output.dtype.name} of shape {output.shape}. Name another "
                "signature."
            )
        return tower

    def inputs(self) -> dict[str, tf.TensorSpec]:
        """Features by name."""
        return _loaded(self).structured_input_signature[1]

    def embed(self, features: Mapping[str, pa.ChunkedArray]) -> np.ndarray:
        """Embeddings of rows.

        Args:
          features: Columns by input, without nulls.

        Returns:
          [n, d] float32.
        """
        function = _loaded(self)
        given = {
            name: _tensor(features[name], spec) for name, spec in self.inputs().items()
        }
        found = function(**given)[_output(function)]
        return tf.cast(found, tf.float32).numpy()


def arrow_type(spec: tf.TensorSpec) -> pa.DataType:
    """The type of the column that a feature is made of."""
    if spec.dtype == tf.string:
        value = pa.large_string()
    else:
        value = pa.from_numpy_dtype(spec.dtype.as_numpy_dtype)
    return value if spec.shape.rank == 1 else pa.large_list(value)


@functools.lru_cache(maxsize=1)
def _loaded(tower: SavedTower) -> Any:
    no_scann: ImportError | None = None
    try:
        scann_ops()  # An export's index may need it.
    except ImportError as error:
        no_scann = error
    try:
        model = tf.saved_model.load(tower.path)
    except (OSError, tf.errors.OpError) as error:
        if no_scann and "Scann>" in str(error):
            raise no_scann from error
        raise ValueError(
            f"Expected a whole SavedModel, received {tower.path!r}, which cannot be "
            f"loaded ({str(error).splitlines()[0]}). Save it again."
        ) from error
    if tower.signature not in model.signatures:
        raise ValueError(
            f"{tower.path!r} must have the signature {tower.signature!r}, received "
            f"{', '.join(sorted(model.signatures)) or 'none'}. Name one of them."
        )
    function = model.signatures[tower.signature]
    function.owner = model  # Its variables live as long as the model.
    return function


def _output(function: Any) -> str:
    names = list(function.structured_outputs)
    if len(names) > 1 and _OUTPUT not in names:
        raise ValueError(
            f"A tower's signature must have one output, or one called {_OUTPUT!r}, "
            f"received {', '.join(names)}. Save it with one."
        )
    return _OUTPUT if _OUTPUT in names else names[0]


def _tensor(column: pa.ChunkedArray, spec: tf.TensorSpec) -> tf.Tensor:
    if spec.shape.rank == 1:
        values = column.to_numpy()
        return tf.constant(values, spec.dtype)
    lengths = set(column.combine_chunks().value_lengths().to_pylist())
    if len(lengths) > 1:
        raise ValueError(
            f"Lists of the feature {spec.name!r} must be equally long, received "
            f"{sorted(lengths)[:5]} values. Fill the shorter ones."
        )
    values = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return tf.constant(values.reshape(len(column), -1), spec.dtype)
