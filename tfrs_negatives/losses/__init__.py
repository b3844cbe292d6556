"""Losses over sampled negatives: tensors in, tensor out."""

from tfrs_negatives.losses.false_negative_filter import FalseNegativeFilter
from tfrs_negatives.losses.sampled_sigmoid import SampledSigmoid
from tfrs_negatives.losses.sampled_softmax import SampledSoftmax
from tfrs_negatives.losses.top_k_weights import top_k_weights

__all__ = [
    "FalseNegativeFilter",
    "SampledSigmoid",
    "SampledSoftmax",
    "top_k_weights",
]
