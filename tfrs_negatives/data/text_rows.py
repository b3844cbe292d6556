"""Rows of text tables from any byte on."""

import csv
import os

# Rows that are held while all are looked at.
_PART = 8_192


def header(path, separator, source):
    """The names of the columns, and the byte at which rows begin.

    Raises:
      ValueError: There is no header, or it is no UTF-8 text.
    """
    records, position = read(path, separator, 0, 1, None, source)
    if not records:
        raise ValueError(
            f"{source} must hold a header and interactions, received an empty file."
        )
    return [name.removeprefix("\ufeff") for name in records[0]], position


def read(path, separator, position, num, num_fields, source):
    """Reads whole rows, quoted line breaks included.

    Args:
      path: A file in UTF-8.
      separator: Between fields.
      position: Byte at which a row begins.
      num: How many rows at most.
      num_fields: How many fields each row must have; None: any.
      source: Where rows come from, for messages.

    Returns:
      A list of rows, lists of strings, and the byte at which the next row begins; -1
      at the end of the file.

    Raises:
      ValueError: A row with other numbers of fields, as at the end of a file that was
        cut off; a quotation without an end; text that is not UTF-8.
    """
    with open(path, "rb") as file:
        file.seek(position)
        lines = _Lines(file)
        rows = []
        try:
            for row in csv.reader(lines, delimiter=separator, strict=True):
                if not row:
                    continue  # An empty line.
                if num_fields is not None and len(row) != num_fields:
                    raise ValueError(
                        f"Each row must have {num_fields} fields, received {len(row)} "
                        f"in the row that ends at byte {position + lines.num_bytes}"
                    )
                rows.append(row)
                if len(rows) == num:
                    break
        except (csv.Error, ValueError) as error:
            raise ValueError(
                f"Expected a whole UTF-8 text table, received {source}, which cannot "
                f"be read ({error}, after byte {position}). Was it cut off? Mend or "
                "convert it."
            ) from error
    position += lines.num_bytes
    return rows, position if position < os.path.getsize(path) else -1


def check_fields(path, separator, num_fields, source):
    """Raises `ValueError` unless each row has so many fields; see `read`.

    A row that was cut off within its last field cannot be told from a whole one.
    """
    position = 0
    while position >= 0:
        position = read(path, separator, position, _PART, num_fields, source)[1]


class _Lines:
    """Lines of text, and how many bytes were read for them."""

    def __init__(self, file):
        self._file = file
        self.num_bytes = 0

    def __iter__(self):
        return self

    def __next__(self):
        line = self._file.readline()
        if not line:
            raise StopIteration
        self.num_bytes += len(line)
        return line.decode("utf-8")
