"""What TensorFlow's errors say."""

from __future__ import annotations


def cause_of(error: Exception) -> str:
    """The line of TensorFlow's message that says what is wrong."""
    before_the_node = str(error).split("\n\t [[")[0]
    return (before_the_node.splitlines() or [type(error).__name__])[-1]
