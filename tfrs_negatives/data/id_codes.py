"""Ids as numbers of their sorted distinct values."""

from __future__ import annotations

import numpy as np


def codes(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct ids and where each one is among them, as `np.unique` has it.

    For strings this takes time linear in the rows, where `np.unique` sorts all of them.

    Args:
      ids: [n] integers, or strings as objects or in NumPy's fixed width.

    Returns:
      `(distinct, codes)`: [d] ids, ascending, strings as objects; [n] int64.
    """
    import pyarrow as pa

    if ids.dtype.kind in "iu":
        return np.unique(ids, return_inverse=True)
    encoded = pa.array(ids, pa.large_string()).dictionary_encode()
    distinct = encoded.dictionary.to_numpy(zero_copy_only=False)
    order = np.argsort(distinct, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    return distinct[order], place[encoded.indices.to_numpy()]
