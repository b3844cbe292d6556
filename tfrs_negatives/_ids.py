"""Ids and keys as 64-bit integers, so that all comparisons are of one kind."""

from __future__ import annotations

import tensorflow as tf

from tfrs_negatives import _checks
from tfrs_negatives._xla import compiled_by_xla
from tfrs_negatives.types import TensorLike

_GOLDEN = 0x9E3779B97F4A7C15

# A fixed key makes hashes equal in every process and on every replica.
_HASH_KEY = (0x746672735F6E6567, 0x617469766573)


def as_int64(name: str, ids: TensorLike) -> tf.Tensor:
    """Returns ids or keys as int64: integers as they are, strings hashed.

    Strings become 63-bit SipHash values; among n distinct strings two share a
    value with probability about n^2 / 2^64 (6e-8 for a million strings).

    Args:
      name: The argument's name, for messages.
      ids: Integer or string tensor (or anything convertible), any shape.

    Returns:
      int64 tensor of the same shape.

    Raises:
      ValueError: The dtype is neither integer nor string, or the tensor is ragged or
        sparse; strings where XLA compiles, as on a TPU.
    """
    ids = _checks.dense(name, ids)
    if ids.dtype == tf.string:
        if compiled_by_xla():
            raise ValueError(
                f"`{name}` are strings, which XLA (`jit_compile=True`, a TPU) cannot "
                "read: expected integers. Look them up, or hash them by "
                "`tf.strings.to_hash_bucket_strong`, in the input pipeline."
            )
        return tf.strings.to_hash_bucket_strong(ids, 2**63 - 1, key=_HASH_KEY)
    if not ids.dtype.is_integer:
        raise ValueError(
            f"`{name}` must be integers or strings, received {ids.dtype.name}. "
            "Pass ids, not embeddings or weights; cast floats to int64 yourself "
            "if they hold whole numbers."
        )
    return tf.cast(ids, tf.int64)


def check_comparable(
    name: str, ids: tf.Tensor | tf.RaggedTensor, other_name: str, other: tf.Tensor
) -> None:
    """Raises `ValueError` when one holds strings and the other integers."""
    if (ids.dtype == tf.string) != (other.dtype == tf.string):
        raise ValueError(
            f"`{name}` ({ids.dtype.name}) and `{other_name}` ({other.dtype.name}) "
            "can never be equal: pass both as strings or both as integers."
        )


def mix(values: tf.Tensor) -> tf.Tensor:
    """Scatters 64-bit integers evenly: the finaliser of SplitMix64 (Steele et al.
    2014), one to one.

    Args:
      values: uint64 tensor.

    Returns:
      uint64 tensor of the same shape.
    """
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values = _xor_shift(values, shift) * tf.constant(factor, tf.uint64)
    return _xor_shift(values, 31)


def pairs(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """One int64 for each pair of int64; equal pairs have equal ones.

    Different ones coincide with probability 2^-64, and never for equal `first`.

    Args:
      first, second: int64 tensors of shapes that broadcast.
    """
    golden = tf.constant(_GOLDEN, tf.uint64)
    first = mix(tf.bitcast(first, tf.uint64) + golden)
    return tf.bitcast(mix(first + tf.bitcast(second, tf.uint64)), tf.int64)


def keys_or_own(keys: tf.Tensor, mask: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Keys, and one of its own for each entry that has none.

    Args:
      keys: [n] int64.
      mask: [n] bool, which entries have a key.
      places: [n] int64, distinct and at least 0.

    Returns:
      [n] int64, equal for equal keys. What differs coincides with a probability of
      2^-64.
    """
    none = tf.zeros_like(keys)
    return pairs(tf.where(mask, none, places + 1), tf.where(mask, keys, none))


def salted(ids: tf.Tensor, salts: tf.Tensor) -> tf.Tensor:
    """Hashes int64 ids to uint64 in as many independent ways as there are salts.

    Args:
      ids: [n] int64.
      salts: [m] integers.

    Returns:
      [m, n] uint64.
    """
    golden = tf.constant(_GOLDEN, tf.uint64)
    return mix(
        tf.bitcast(ids, tf.uint64) + tf.cast(salts, tf.uint64)[:, tf.newaxis] * golden
    )


def _xor_shift(z: tf.Tensor, shift: int) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(
        z, tf.bitwise.right_shift(z, tf.constant(shift, tf.uint64))
    )
