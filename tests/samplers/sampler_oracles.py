"""What samplers are tested against: NumPy, and nothing of the package."""

import numpy as np
import tensorflow as tf


def rows_dataset(num_batches=8, size=4, **columns):
    """Batches of `size` rows; `row` numbers them, columns repeat."""
    num_rows = num_batches * size
    columns = {name: np.resize(column, (num_rows, *np.shape(column)[1:]))
               for name, column in columns.items()}  # fmt: skip
    columns["row"] = np.arange(num_rows)
    return tf.data.Dataset.from_tensor_slices(columns).batch(size)


def collect(dataset, *names):
    """The features' values over the whole dataset, joined along the first axis."""
    elements = [[element[name].numpy() for name in names] for element in dataset]
    joined = [np.concatenate(values) for values in zip(*elements, strict=True)]
    return joined[0] if len(joined) == 1 else joined


def restricted(q, excluded):
    """q without the excluded items, normalised."""
    q = np.array(q, np.float64)
    q[list(excluded)] = 0
    return q / q.sum()


def check_distribution(draws, q):
    """Chi-square of draws, positions, against q; a false alarm once in 10^4.

    The quantile is that of Wilson and Hilferty (PNAS 1931); every seed is fixed.
    """
    q = np.asarray(q, np.float64)
    counts = np.bincount(np.ravel(draws), minlength=len(q))
    assert len(counts) == len(q)
    possible = q > 0
    assert not counts[~possible].any()
    expected = counts.sum() * q[possible]
    assert expected.min() >= 5, "too few draws for a chi-square"
    statistic = ((counts[possible] - expected) ** 2 / expected).sum()
    freedom = max(possible.sum() - 1, 1)
    z = 3.719  # The normal distribution's 99.99% quantile.
    spread = 2 / (9 * freedom)
    assert statistic < freedom * (1 - spread + z * spread**0.5) ** 3
