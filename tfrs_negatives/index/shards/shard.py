"""What the parts of a split corpus have to offer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

#: Signatures that a search asks for.
PLAIN, EXCLUDING = "serving_default", "with_exclusions"

# Of the name of the embeddings.
_PREFIX = "embeddings_"

# Inputs that shards may have beside the embeddings, and the search passes on: a value
# for each row.
_OPTIONS = ("where", "popularity_discount")


class ShardError(RuntimeError):
    """A shard answers, and is not one of this model: of another version, say."""


def embeddings_input(model_id: str) -> str:
    """The name that embeddings of a query tower have among the inputs of its shards."""
    return f"{_PREFIX}{model_id}"


def check_popularity(features: Iterable[str], popularity: Any) -> None:
    """Raises `ValueError` for a shard's counts: their sum would be that of the shard.

    Args:
      features: Names of what the export takes.
      popularity: What it was given.
    """
    is_shard = any(name.startswith(_PREFIX) for name in features)
    if is_shard and np.issubdtype(np.asarray(popularity).dtype, np.integer):
        raise ValueError(
            "`popularity` of a shard must be log q, of all items of all shards, "
            "received counts. Divide them by their sum over all shards, and take the "
            "logarithm."
        )


@dataclasses.dataclass(frozen=True)
class ShardDescription:
    """What a shard takes and returns.

    Attributes:
      width: Of the embeddings.
      outputs: Dict from name to (name of dtype, rank): "ids", "scores" and payload.
      options: Dict from inputs that may be left out to the value they have then.
    """

    width: int
    outputs: dict[str, tuple[str, int]]
    options: dict[str, Any]

    @classmethod
    def of(
        cls,
        name: str,
        inputs: Mapping[str, tf.TensorSpec],
        outputs: Mapping[str, tf.TensorSpec],
        options: Mapping[str, Any],
    ) -> ShardDescription:
        """The description of a signature.

        Args:
          name: The input that is the embeddings.
          inputs: All inputs.
          outputs: All outputs.
          options: Values of inputs that are left out; others than those known here may
            be among them.
        """
        width = inputs[name].shape[1]
        return cls(
            width,
            {n: (spec.dtype.name, spec.shape.rank) for n, spec in outputs.items()},
            {n: options[n] for n in _OPTIONS if n in inputs and n in options},
        )

    def difference(self, other: ShardDescription) -> str | None:
        """What of another shard is not as here, a part of a sentence; None: nothing."""
        for field in dataclasses.fields(self):
            own, its = getattr(self, field.name), getattr(other, field.name)
            if own != its:
                return f"its {field.name} are {its!r}, where others have {own!r}"
        return None


class OpenShard(Protocol):
    """A shard that is asked for one model. Many threads may ask at a time."""

    def describe(self, seconds: float) -> ShardDescription:
        """What it takes and returns.

        Args:
          seconds: How long that may take.

        Raises:
          OSError: It cannot be reached.
          ShardError: It is of another model.
        """
        ...

    def ask(
        self, signature: str, inputs: Mapping[str, np.ndarray], seconds: float
    ) -> dict[str, np.ndarray]:
        """The best of its items.

        Args:
          signature: `PLAIN` or `EXCLUDING`.
          inputs: Dict from name to array.
          seconds: How long that may take.

        Raises:
          OSError: It cannot be reached, fails or is late.
          ShardError: It has become one of another model.
          ValueError: It refuses the request, a filter that is none for instance.
        """
        ...

    def close(self) -> None:
        """Ends it. It is not asked any more."""
        ...


class Shard(Protocol):
    """A part of a split corpus, wherever it is."""

    @property
    def name(self) -> str:
        """What messages call it."""
        ...

    def open(self, name: str) -> OpenShard:
        """Makes ready to ask, which never fails.

        Args:
          name: The input that is the embeddings.
        """
        ...
