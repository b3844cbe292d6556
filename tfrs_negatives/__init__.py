"""The right negatives for two-tower retrieval.

Sub-packages load when first used, so that the console script can choose the
Keras version before TensorFlow is imported.
"""

import importlib

from tfrs_negatives.version import __version__

_SUBPACKAGES = (
    "audit",
    "callbacks",
    "data",
    "distribute",
    "index",
    "layers",
    "losses",
    "metrics",
    "models",
    "samplers",
    "tasks",
)

__all__ = ["__version__", *_SUBPACKAGES]


def __getattr__(name):
    if name in _SUBPACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted(__all__)
