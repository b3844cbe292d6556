"""ScaNN's TensorFlow operations, which fit one version of TensorFlow alone."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

# What the operations of the extra's scann were compiled against.
_TENSORFLOW = "2.20"


def scann_ops() -> Any:
    """The module of the operations. To import it registers them with TensorFlow.

    Raises:
      ImportError: if it is missing, or built for another TensorFlow.
    """
    try:
        from scann.scann_ops.py import scann_ops as ops
    except (ImportError, tf.errors.OpError) as error:
        # Of another TensorFlow, a symbol is missing: `NotFoundError`.
        reason = str(error).splitlines()[0]
        raise ImportError(
            f"ScaNN cannot be loaded with TensorFlow {tf.__version__} ({reason}). It "
            f"needs TensorFlow {_TENSORFLOW}: `pip install tfrs_negatives[scann]` "
            "installs both. `tfrs_negatives.index.BruteForce` searches with any."
        ) from error
    return ops
