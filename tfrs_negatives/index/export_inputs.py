"""What an export is given beside its items, checked: features, histories, defaults."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np
import tensorflow as tf

from tfrs_negatives.data.positives_of import Positives
from tfrs_negatives.types import Features, Tower

#: Inputs that signatures have beside features.
INPUTS = ("k", "exclusions")

#: Outputs that signatures have beside the payload.
OUTPUTS = ("ids", "scores")

#: What a tower takes: one tensor, or a dict of them.
Signature: TypeAlias = tf.TensorSpec | dict[str, tf.TensorSpec]


def named_features(
    query_signature: Signature, taken: Collection[str]
) -> dict[str, tf.TensorSpec]:
    """The signature as a dict from name to `tf.TensorSpec`.

    Args:
      query_signature: One `tf.TensorSpec` or a dict of them.
      taken: Names that no feature may have.

    Raises:
      ValueError: It is anything else.
    """
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
    check_names("query_signature", features, taken)
    return {
        name: tf.TensorSpec(spec.shape, spec.dtype, name=name)
        for name, spec in features.items()
    }


def tower_of_features(
    query_tower: Tower, query_signature: Signature, features: Mapping[str, Any]
) -> Tower:
    """The tower as a function from a dict of features.

    Args:
      query_tower: Of what `query_signature` says: one tensor, or a dict.
      query_signature: As the caller gave it.
      features: What `named_features` made of it.
    """
    if not isinstance(query_signature, tf.TensorSpec):
        return query_tower
    (single,) = features

    def of_one(inputs: Features) -> tf.Tensor:
        return query_tower(inputs[single])

    return of_one


def checked_history_feature(
    histories: Positives | None,
    history_feature: str | None,
    features: Mapping[str, tf.TensorSpec],
) -> str | None:
    """The feature with the users' ids of `histories`; None where there are none.

    Raises:
      ValueError: Histories of another kind, or no such feature.
    """
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
    return history_feature


def check_default_k(k: int) -> None:
    """Raises `ValueError` unless a request without `k` can get so many items."""
    if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k < 2**31:
        raise ValueError(f"`k` must be a positive int, received {k!r}.")


def check_history_items(
    history_items: str | None,
    features: Mapping[str, tf.TensorSpec],
    ids: tf.DType | None,
) -> None:
    """Raises `ValueError` unless a feature holds items' ids.

    Args:
      history_items: Its name, or None.
      features: All features.
      ids: The dtype of the ids; None: of no feature.
    """
    if history_items is None:
        return
    spec = features.get(history_items)
    if spec is None or spec.shape.rank != 2 or spec.dtype != ids:
        received = "none of that name" if spec is None else f"{spec!r}"
        raise ValueError(
            "`history_items` must name a feature of items' ids, "
            f"{'int64 or string' if ids is None else ids.name} of shape [None, None], "
            f"received {history_items!r}, {received}."
        )


def optional_rows(
    optional: Mapping[str, Any], features: Mapping[str, tf.TensorSpec]
) -> dict[str, tf.Tensor]:
    """The rows that stand for what requests leave out, [1, ...] each.

    Args:
      optional: The row of each such feature.
      features: All features.

    Raises:
      ValueError: A row that does not fit its feature, or no feature is left.
    """
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


def described_features(features: Mapping[str, tf.TensorSpec]) -> dict[str, Any]:
    """Dtype and shape of each feature, for the description of an export."""
    return {
        name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
        for name, spec in features.items()
    }


def described_rows(rows: Mapping[str, tf.Tensor]) -> dict[str, Any]:
    """What `optional_rows` returned, for the description of an export."""
    return {
        name: _plain(np.asarray(row.numpy()[0]).tolist()) for name, row in rows.items()
    }


def check_names(argument: str, names: Iterable[str], taken: Collection[str]) -> None:
    """Raises `ValueError` for names that a signature cannot have."""
    for name in names:
        if name in taken or not (isinstance(name, str) and name.isidentifier()):
            raise ValueError(
                f"`{argument}` has a column {name!r}: names must be identifiers other "
                f"than {', '.join(taken)}, which the signatures use. Rename it."
            )


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value.decode() if isinstance(value, bytes) else value
