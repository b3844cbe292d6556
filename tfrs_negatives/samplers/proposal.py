"""What a sampler draws from, for the rows of one element."""

from __future__ import annotations

from typing import Protocol

import tensorflow as tf


class Proposal(Protocol):
    """A distribution over the N items of a corpus for each of B rows."""

    def draw(self, num: int, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Draws `num` items for each row.

        Returns:
          Positions [B, num] int64 in [0, N), their log q [B, num] float32 and whether
          they were drawn [B, num] (False: nothing was left).
        """

    def log_prob(self, positions: tf.Tensor) -> tf.Tensor:
        """log q [B, M] float32 of any positions, -inf for those that are not drawn."""
