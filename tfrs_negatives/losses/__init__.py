"""Losses over sampled negatives: tensors in, tensor out."""

from tfrs_negatives.losses.sampled_sigmoid import SampledSigmoid
from tfrs_negatives.losses.sampled_softmax import SampledSoftmax

__all__ = ["SampledSigmoid", "SampledSoftmax"]
