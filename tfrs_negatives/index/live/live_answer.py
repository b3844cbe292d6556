"""What a live index answers."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class LiveAnswer:
    """The best items of each query, as many as were asked for or there are.

    Attributes:
      ids: `[B, k]`: int64, or objects that are str.
      scores: `[B, k]` float32, descending.
      payload: Columns by name, `[B, k]`: int64, float64, or objects that are str.

    Example:
      >>> import tempfile
      >>> path = tempfile.mkdtemp()
      >>> index = tn.index.LiveIndex.create(
      ...     path, [7, 8], np.eye(2, dtype=np.float32), payload={"title": ["A", "B"]}
      ... )
      >>> answer = index.search(np.array([[1.0, 2.0]]), k=2)
      >>> answer.ids.tolist(), answer.scores.tolist()
      ([[8, 7]], [[2.0, 1.0]])
      >>> answer.payload["title"].tolist()
      [['B', 'A']]
      >>> index.close()
    """

    ids: np.ndarray
    scores: np.ndarray
    payload: dict[str, np.ndarray]
