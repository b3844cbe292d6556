"""From a table of interactions to a trained, measured and exported recommender.

`Recommender` loads when first used: the console script reads settings from here before
it imports TensorFlow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfrs_negatives.recommender.recommender import Recommender
    from tfrs_negatives.recommender.settings import Settings
    from tfrs_negatives.recommender.source import Source

__all__ = ["Recommender", "Settings", "Source"]


def __getattr__(name: str) -> Any:
    if name == "Recommender":
        from tfrs_negatives.recommender.recommender import Recommender

        return Recommender
    if name == "Settings":
        from tfrs_negatives.recommender.settings import Settings

        return Settings
    if name == "Source":
        from tfrs_negatives.recommender.source import Source

        return Source
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
