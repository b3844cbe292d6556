"""How far outputs are from what they should be."""

import numpy as np

# What rounding explains, of the gradients' length: of what is multiplied, 8 or 11 bits.
TOLERANCES = {"float32": 2e-5, "tf32": 2e-3, "bfloat16": 2e-2}


def relative_errors(outputs, expected):
    """The first output's error and the largest of the others', relative to lengths.

    Args:
      outputs, expected: Lists of arrays; the first is the loss, if it is a scalar.

    Returns:
      `(loss, gradients)`; None for the loss where there is none.
    """
    found = []  # `np.max` below, as Python's `max` passes over what is not a number.
    for one, other in zip(outputs, expected, strict=True):
        one, other = (np.asarray(x, np.float64) for x in (one, other))
        found.append(float(np.linalg.norm(one - other) / np.linalg.norm(other)))
    if np.ndim(expected[0]):
        return None, float(np.max(found))
    return found[0], float(np.max(found[1:]))
