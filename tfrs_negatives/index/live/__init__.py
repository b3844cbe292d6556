"""An index in a directory that changes while it serves."""

from tfrs_negatives.index.live.live_answer import LiveAnswer
from tfrs_negatives.index.live.live_index import LiveIndex

__all__ = ["LiveAnswer", "LiveIndex"]
