"""Columns of a live index: ids, payload and attributes of its rows.

Rows are added and never changed, so that what a search has in its hands stays what it
was.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrs_negatives.index.filters.filter_columns import (
    AttributeValues,
    CategoryValues,
    SetValues,
)
from tfrs_negatives.index.live.growing_array import GrowingArray

if TYPE_CHECKING:
    from typing_extensions import Self

Arrays = dict[str, np.ndarray]


class LiveColumn(abc.ABC):
    """One value for each row."""

    @classmethod
    @abc.abstractmethod
    def of(cls, values: Sequence[Any]) -> Self:
        """A column of checked values: see `live_values`."""

    @abc.abstractmethod
    def append(self, values: Sequence[Any]) -> None:
        """Adds rows of checked values."""

    @abc.abstractmethod
    def view(self) -> Any:
        """What a search reads, which stays as it is when rows are added."""

    @abc.abstractmethod
    def values(self, rows: np.ndarray) -> list[Any]:
        """The values of some rows, as they were given; `rows` are row numbers."""

    @abc.abstractmethod
    def arrays(self, rows: np.ndarray) -> Arrays:
        """Some rows as arrays that a file can hold, in the order of `rows`.

        Args:
          rows: `[R]` row numbers, ascending.
        """

    @classmethod
    @abc.abstractmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        """The column that `arrays` returned these of."""


class FixedColumn(LiveColumn):
    """Numbers; NaN where one is missing."""

    _DTYPE: type[np.generic]

    def __init__(self, values: np.ndarray) -> None:
        self._values = GrowingArray(values)

    @classmethod
    def of(cls, values: Sequence[Any]) -> Self:
        return cls(np.array(values, cls._DTYPE))

    def append(self, values: Sequence[Any]) -> None:
        self._values.append(np.array(values, self._DTYPE))

    def view(self) -> np.ndarray:
        return self._values.view()

    def values(self, rows: np.ndarray) -> list[Any]:
        return self.view()[rows].tolist()

    def arrays(self, rows: np.ndarray) -> Arrays:
        return {"values": self.view()[rows]}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        return cls(arrays["values"])


class IntegerColumn(FixedColumn):
    """Integers of 64 bits."""

    _DTYPE = np.int64


class FloatColumn(FixedColumn):
    """Floating-point numbers of 64 bits."""

    _DTYPE = np.float64


class TextColumn(LiveColumn):
    """Texts."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = GrowingArray(values)

    @classmethod
    def of(cls, values: Sequence[Any]) -> Self:
        return cls(_objects(values))

    def append(self, values: Sequence[Any]) -> None:
        self._values.append(_objects(values))

    def view(self) -> np.ndarray:
        return self._values.view()

    def values(self, rows: np.ndarray) -> list[Any]:
        return self.view()[rows].tolist()

    def arrays(self, rows: np.ndarray) -> Arrays:
        return _text_arrays(self.view()[rows].tolist())

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        return cls.of(_texts(arrays))


class CategoryColumn(LiveColumn):
    """One text a row out of few, or None."""

    def __init__(self, codes: np.ndarray, texts: Sequence[str]) -> None:
        self._codes = GrowingArray(codes)
        self._vocabulary = _Codes(texts)

    @classmethod
    def of(cls, values: Sequence[Any]) -> Self:
        column = cls(np.empty([0], np.int32), [])
        column.append(values)
        return column

    def append(self, values: Sequence[Any]) -> None:
        # -1 is no number of a text.
        codes = [-1 if v is None else self._vocabulary.add(v) for v in values]
        self._codes.append(np.array(codes, np.int32))

    def view(self) -> AttributeValues:
        return CategoryValues(self._codes.view(), self._vocabulary.code_of)

    def values(self, rows: np.ndarray) -> list[Any]:
        texts = self._vocabulary.texts
        codes = self._codes.view()[rows].tolist()
        return [None if code < 0 else texts[code] for code in codes]

    def arrays(self, rows: np.ndarray) -> Arrays:
        codes, texts = _compact(self._codes.view()[rows], self._vocabulary.texts)
        return {"codes": codes, **_text_arrays(texts)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        return cls(arrays["codes"], _texts(arrays))


class SetColumn(LiveColumn):
    """Any number of texts a row, each of few."""

    def __init__(
        self, rows: np.ndarray, codes: np.ndarray, num_rows: int, texts: Sequence[str]
    ) -> None:
        # Ascending.
        self._rows, self._codes = GrowingArray(rows), GrowingArray(codes)
        self._num_rows = num_rows
        self._vocabulary = _Codes(texts)

    @classmethod
    def of(cls, values: Sequence[Any]) -> Self:
        column = cls(np.empty([0], np.int64), np.empty([0], np.int32), 0, [])
        column.append(values)
        return column

    def append(self, values: Sequence[Any]) -> None:
        pairs = [
            (row, self._vocabulary.add(text))
            for row, texts in enumerate(values, self._num_rows)
            for text in texts
        ]
        self._num_rows += len(values)
        if pairs:
            self._rows.append(np.array([row for row, _ in pairs], np.int64))
            self._codes.append(np.array([code for _, code in pairs], np.int32))

    def view(self) -> AttributeValues:
        return SetValues(
            self._rows.view(), self._codes.view(), self._vocabulary.code_of
        )

    def values(self, rows: np.ndarray) -> list[Any]:
        held, codes = self._rows.view(), self._codes.view()
        starts, ends = (np.searchsorted(held, rows, side) for side in ("left", "right"))
        texts = self._vocabulary.texts
        return [
            [texts[code] for code in codes[start:end].tolist()]
            for start, end in zip(starts, ends, strict=True)
        ]

    def arrays(self, rows: np.ndarray) -> Arrays:
        held = self._rows.view()
        place = np.minimum(np.searchsorted(rows, held), max(len(rows) - 1, 0))
        kept = rows[place] == held if len(rows) else np.zeros(len(held), bool)
        codes, texts = _compact(self._codes.view()[kept], self._vocabulary.texts)
        return {
            "rows": place[kept].astype(np.int64),
            "codes": codes,
            "num_rows": np.array([len(rows)], np.int64),
            **_text_arrays(texts),
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> Self:
        num_rows = int(arrays["num_rows"][0])
        return cls(arrays["rows"], arrays["codes"], num_rows, _texts(arrays))


class _Codes:
    """A number for each text, in the order in which they came."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = list(texts)
        self.code_of = {text: code for code, text in enumerate(self.texts)}

    def add(self, text: str) -> int:
        code = self.code_of.get(text)
        if code is None:
            code = len(self.texts)
            self.texts.append(text)
            self.code_of[text] = code
        return code


def _compact(codes: np.ndarray, texts: Sequence[str]) -> tuple[np.ndarray, list[str]]:
    """Codes without gaps, and the texts that they use; below 0 stays."""
    used = np.unique(codes[codes >= 0])
    compacted = np.searchsorted(used, codes).astype(np.int32)
    return np.where(codes < 0, codes, compacted), [texts[code] for code in used]


def _objects(texts: Sequence[Any]) -> np.ndarray:
    """Python's texts: NumPy's own would lose characters 0 at the end."""
    array = np.empty([len(texts)], object)
    array[:] = texts
    return array


def _text_arrays(texts: Sequence[str]) -> Arrays:
    # Half of a surrogate pair is a text in Python, and comes back as it was.
    encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return {"utf8": np.frombuffer(b"".join(encoded), np.uint8), "ends": ends}


def _texts(arrays: Mapping[str, np.ndarray]) -> list[str]:
    utf8, ends = arrays["utf8"].tobytes(), arrays["ends"].tolist()
    return (
        [
            utf8[start:end].decode("utf-8", "surrogatepass")
            for start, end in zip([0, *ends[:-1]], ends, strict=True)
        ]
        if ends
        else []
    )


#: The column of each kind of ids and payload, and of attributes.
COLUMNS: dict[str, type[LiveColumn]] = {
    "integer": IntegerColumn,
    "float": FloatColumn,
    "string": TextColumn,
    "category": CategoryColumn,
    "number": FloatColumn,
    "date": FloatColumn,
    "set": SetColumn,
}
