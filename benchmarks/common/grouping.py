"""Values put together by the number of their group, such as the user."""

import numpy as np


def by_group(num_groups, groups, values):
    """A list of arrays: the values of each group, in their order."""
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups, minlength=num_groups))
    return np.split(values[order], ends[:-1])


def places_within(groups):
    """0, 1, 2, ... within each group; the groups are sorted."""
    sizes = np.bincount(groups)
    return np.arange(len(groups)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
