"""The attributes of items, as a filter reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

import numpy as np


@dataclasses.dataclass(frozen=True)
class CategoryValues:
    """One text an item, or none.

    Attributes:
      codes: `[N]` int32, a number for each text; -1: missing.
      code_of: The number of each text that there is.
    """

    codes: np.ndarray
    code_of: Mapping[str, int]


@dataclasses.dataclass(frozen=True)
class SetValues:
    """Any number of texts an item.

    Attributes:
      rows: `[V]` int64, the item of each value.
      codes: `[V]` int32, its text, as a number.
      code_of: The number of each text that there is.
    """

    rows: np.ndarray
    codes: np.ndarray
    code_of: Mapping[str, int]


#: `[N]` float64, NaN: missing. Numbers, and dates as seconds since 1970.
NumberValues: TypeAlias = np.ndarray
AttributeValues: TypeAlias = CategoryValues | SetValues | NumberValues
