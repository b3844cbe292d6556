"""Sums over all parts of a group but one, in logarithms and without cancellation."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf


class LogParts(NamedTuple):
    """The parts of groups, in logarithms.

    Attributes:
      values: [S], the log of each part.
      groups: [S] int32, sorted, the group of each.
      top: [S] bool, the largest part of its group, one a group.
      largest: [G], the log of each group's largest part.
      runner_up: [G], the log of the sum of all others of the group.
    """

    values: tf.Tensor
    groups: tf.Tensor
    top: tf.Tensor
    largest: tf.Tensor
    runner_up: tf.Tensor


def split(values: tf.Tensor, groups: tf.Tensor, num_groups: tf.Tensor) -> LogParts:
    """Finds each group's largest part.

    To get the sum of a group without one part, subtract the part from the sum. That
    loses all precision if the part is nearly the whole sum. Only the largest part can
    be, so it is kept apart.

    Args:
      values: [S] logarithms, -inf allowed.
      groups: [S] int32, sorted.
      num_groups: G, scalar int32.

    Returns:
      `LogParts`.
    """
    largest = _segment_max(values, groups, num_groups)
    is_largest = tf.equal(values, tf.gather(largest, groups))
    places = tf.range(tf.size(values))
    candidates = tf.where(is_largest, places, tf.size(values))
    first = tf.math.unsorted_segment_min(candidates, groups, num_groups)
    top = tf.equal(places, tf.gather(first, groups))
    others = tf.where(top, _minus_inf(values), values)
    runner_up = segment_logsumexp(others, groups, num_groups)
    return LogParts(values, groups, top, largest, runner_up)


def log_sums_of_others(parts: LogParts) -> tf.Tensor:
    """[S], for each part the log of the sum of its group's others."""
    reference = tf.gather(finite(parts.largest), parts.groups)
    runner_up = tf.gather(parts.runner_up, parts.groups)
    # The largest is among the others, so that nothing cancels.
    without = 1 + tf.exp(runner_up - reference) - tf.exp(parts.values - reference)
    others = reference + tf.math.log(tf.maximum(without, 1))
    largest = tf.gather(parts.largest, parts.groups)
    others = tf.where(tf.equal(largest, float("-inf")), largest, others)
    return tf.where(parts.top, runner_up, others)


def segment_logsumexp(
    values: tf.Tensor, segments: tf.Tensor, num_segments: tf.Tensor
) -> tf.Tensor:
    """[num_segments], log sum exp of each segment; -inf for an empty one."""
    reference = finite(_segment_max(values, segments, num_segments))
    shifted = tf.exp(values - tf.gather(reference, segments))
    sums = tf.math.unsorted_segment_sum(shifted, segments, num_segments)
    return reference + tf.math.log(sums)


def finite(values: tf.Tensor) -> tf.Tensor:
    """0 in place of -inf, to be subtracted."""
    return tf.where(tf.equal(values, float("-inf")), tf.zeros_like(values), values)


def _segment_max(
    values: tf.Tensor, segments: tf.Tensor, num_segments: tf.Tensor
) -> tf.Tensor:
    largest = tf.math.unsorted_segment_max(values, segments, num_segments)
    # Of nothing it is the lowest finite number.
    is_empty = tf.equal(largest, largest.dtype.min)
    return tf.where(is_empty, _minus_inf(largest), largest)


def _minus_inf(values: tf.Tensor) -> tf.Tensor:
    return tf.fill(tf.shape(values), tf.constant(float("-inf"), values.dtype))
