"""Samplers: negatives from beyond the batch, each drawn with a known log q."""

from tfrs_negatives.samplers.uniform import Uniform

__all__ = ["Uniform"]
