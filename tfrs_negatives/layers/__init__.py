"""Layers that estimate how likely each item is to be drawn as a negative."""

from tfrs_negatives.layers.mixed_log_q import MixedLogQ
from tfrs_negatives.layers.scaled_log_q import ScaledLogQ
from tfrs_negatives.layers.static_frequency import StaticFrequency
from tfrs_negatives.layers.streaming_frequency import StreamingFrequency

__all__ = ["MixedLogQ", "ScaledLogQ", "StaticFrequency", "StreamingFrequency"]
