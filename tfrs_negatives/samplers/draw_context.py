"""What one draw may depend on."""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class DrawContext:
    """What one draw may depend on.

    Attributes:
      seed: [2] int64, of the dataset's element.
      size: B, a scalar int32 tensor; 1 for negatives that all rows share.
      element: The dataset's element; None for shared negatives.
      excluded: [B, P] int64 from `sorted_sets`, positions not to be drawn, or None.
      replacement: Whether a row's draws must not depend on one another.
    """

    seed: tf.Tensor
    size: tf.Tensor
    element: dict | None = None
    excluded: tf.Tensor | None = None
    replacement: bool = False
