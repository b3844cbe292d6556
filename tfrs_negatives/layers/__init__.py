"""Layers with what a task remembers: how likely items are, and recent candidates."""

from tfrs_negatives.layers.cross_batch_memory import CrossBatchMemory
from tfrs_negatives.layers.mixed_log_q import MixedLogQ
from tfrs_negatives.layers.once_per_key import OncePerKey
from tfrs_negatives.layers.prior_correction import PriorCorrection
from tfrs_negatives.layers.scaled_log_q import ScaledLogQ
from tfrs_negatives.layers.static_frequency import StaticFrequency
from tfrs_negatives.layers.streaming_frequency import StreamingFrequency

__all__ = [
    "CrossBatchMemory",
    "MixedLogQ",
    "OncePerKey",
    "PriorCorrection",
    "ScaledLogQ",
    "StaticFrequency",
    "StreamingFrequency",
]
