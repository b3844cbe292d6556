"""Ids and keys as 64-bit integers, so that all comparisons are of one kind."""

import tensorflow as tf

# A fixed key makes hashes equal in every process and on every replica.
_HASH_KEY = (0x746672735F6E6567, 0x617469766573)


def as_int64(name, ids):
    """Returns ids or keys as int64: integers as they are, strings hashed.

    Strings become 63-bit SipHash values; among n distinct strings two share a
    value with probability about n^2 / 2^64 (6e-8 for a million strings).

    Args:
      name: The argument's name, for messages.
      ids: Integer or string tensor (or anything convertible), any shape.

    Returns:
      int64 tensor of the same shape.

    Raises:
      ValueError: The dtype is neither integer nor string, or the tensor is ragged.
    """
    if isinstance(ids, tf.RaggedTensor):
        raise ValueError(
            f"`{name}` must be dense, received a ragged tensor of shape {ids.shape}. "
            "Pass `ids.flat_values`, or pad with `ids.to_tensor()`."
        )
    ids = tf.convert_to_tensor(ids)
    if ids.dtype == tf.string:
        return tf.strings.to_hash_bucket_strong(ids, 2**63 - 1, key=_HASH_KEY)
    if not ids.dtype.is_integer:
        raise ValueError(
            f"`{name}` must be integers or strings, received {ids.dtype.name}. "
            "Pass ids, not embeddings or weights; cast floats to int64 yourself "
            "if they hold whole numbers."
        )
    return tf.cast(ids, tf.int64)


def check_comparable(name, ids, other_name, other):
    """Raises `ValueError` when one holds strings and the other integers."""
    if (ids.dtype == tf.string) != (other.dtype == tf.string):
        raise ValueError(
            f"`{name}` ({ids.dtype.name}) and `{other_name}` ({other.dtype.name}) "
            "can never be equal: pass both as strings or both as integers."
        )
