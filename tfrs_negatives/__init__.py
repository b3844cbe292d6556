"""The right negatives for two-tower retrieval.

Sub-packages load when first used, so that the console script can choose the
Keras version before TensorFlow is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from tfrs_negatives.version import __version__

if TYPE_CHECKING:
    # What editors and type checkers see of the names that load when used.
    from tfrs_negatives import (
        audit,
        callbacks,
        data,
        distribute,
        index,
        layers,
        losses,
        metrics,
        models,
        optimizers,
        pipeline,
        recommender,
        samplers,
        serving,
        tasks,
        teachers,
        towers,
    )
    from tfrs_negatives.recommender import Recommender

__all__ = [
    "Recommender",
    "__version__",
    "audit",
    "callbacks",
    "data",
    "distribute",
    "index",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "pipeline",
    "recommender",
    "samplers",
    "serving",
    "tasks",
    "teachers",
    "towers",
]


def __getattr__(name: str) -> Any:
    if name == "Recommender":
        return importlib.import_module(f"{__name__}.recommender").Recommender
    if name in __all__:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
