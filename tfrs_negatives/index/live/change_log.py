"""A log that changes are appended to, and on the disk before they count.

A file begins with a header: magic, the index it belongs to, the number of its first
change, and a checksum. Frames follow, each with the changes of one write: magic,
length, number of the first change, number of changes, checksum of the changes, checksum
of all this; then the changes, each behind its length. A frame is written only when the
one before it is on the disk. So a damaged frame with another one behind it was damaged
later, and one at the end is a write that was cut, of which nothing was promised.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import uuid
import zlib
from collections.abc import Iterator, Sequence

from tfrs_negatives._publish import flush
from tfrs_negatives.index.live.live_changes import Change, decoded, encoded

_FILE = struct.Struct("<8s16sQ")
_FILE_MAGIC = b"TNLIVE\x00\x01"
_FRAME = struct.Struct("<4sQQII")
_FRAME_MAGIC = b"\xf3TNf"
_CHECK = struct.Struct("<I")
_CHANGE = struct.Struct("<Q")
_HEADER_BYTES = _FILE.size + _CHECK.size
_FRAME_BYTES = _FRAME.size + _CHECK.size
_NAME = re.compile(r"log-(\d{20})\.bin")

# Of a file's metadata only the size matters, which this flushes too.
_sync = getattr(os, "fdatasync", os.fsync)


def log_name(first: int) -> str:
    """The name of the log whose first change is number `first`."""
    return f"log-{first:020d}.bin"


def logs_in(folder: str) -> list[tuple[int, str]]:
    """(number of the first change, path) of all logs in a folder, in order."""
    found = []
    for name in os.listdir(folder):
        if match := _NAME.fullmatch(name):
            found.append((int(match.group(1)), os.path.join(folder, name)))
    return sorted(found)


class ChangeLog:
    """A log that is open for appending.

    Args:
      path: The file, which has a header.
      end: Where its last whole frame ends. What is behind it is cut off.
    """

    def __init__(self, path: str, end: int) -> None:
        self._path = path
        self._file = os.open(path, os.O_WRONLY)
        self._end = end
        self._failure: BaseException | None = None
        if os.fstat(self._file).st_size > end:
            os.ftruncate(self._file, end)
            _sync(self._file)

    @classmethod
    def create(cls, folder: str, index_id: uuid.UUID, first: int) -> ChangeLog:
        """A new log in `folder`, whole or not there, whose first change is `first`."""
        path = os.path.join(folder, log_name(first))
        header = _FILE.pack(_FILE_MAGIC, index_id.bytes, first)
        new = f"{path}.new"
        with open(new, "wb") as file:
            file.write(header + _CHECK.pack(zlib.crc32(header)))
            file.flush()
            os.fsync(file.fileno())
        os.rename(new, path)
        flush(folder)
        return cls(path, _HEADER_BYTES)

    def append(self, first: int, changes: Sequence[Change]) -> None:
        """Adds changes, which are on the disk when this returns.

        Args:
          first: Number of the first one.
          changes: At least one.

        Raises:
          OSError: They could not be written. Whether they are on the disk is then not
            known, so the log takes no more until it is opened anew.
        """
        self.check()
        frame = _frame(first, changes)
        try:
            _write_at(self._file, frame, self._end)
            _sync(self._file)
        except BaseException as error:
            self.give_up(error)
            # So that a reader does not take it for a change.
            with contextlib.suppress(OSError):
                os.ftruncate(self._file, self._end)
            raise
        self._end += len(frame)

    def give_up(self, error: BaseException) -> None:
        """Takes no more changes, because of `error`."""
        self._failure = error

    def check(self) -> None:
        """Raises `OSError` if the log takes no more changes."""
        if self._failure is not None:
            raise OSError(
                f"{self._path!r} takes no more changes since one failed "
                f"({self._failure!r}). Close the index, and open it anew."
            )

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


class LogReader:
    """Reads the changes of a log, as far as they are whole.

    Args:
      path: The file.
      index_id: The index that it must belong to.
      first: The number of the change it must begin with.

    Attributes:
      first: The number of its first change.
      end: Where the last frame that was read ends.
      next: The number of the change that follows it.

    Raises:
      ValueError: It is no log of this index, or a frame before the last is damaged.
      FileNotFoundError: There is none.
    """

    def __init__(self, path: str, index_id: uuid.UUID, first: int) -> None:
        self._path = path
        with open(path, "rb") as file:
            header = file.read(_HEADER_BYTES)
        expected = _FILE.pack(_FILE_MAGIC, index_id.bytes, first)
        if header != expected + _CHECK.pack(zlib.crc32(expected)):
            raise ValueError(
                f"{path!r} must begin with the header of this index's log, and does "
                "not: it is damaged, of another index or of a later format. Restore "
                "the whole directory from a copy."
            )
        self.first, self.end, self.next = first, _HEADER_BYTES, first

    def read(self) -> Iterator[tuple[int, Change]]:
        """Number and change of all that came since the last call."""
        with open(self._path, "rb") as file:
            file.seek(self.end)
            data = file.read()
        place = 0
        while place < len(data):
            length = _whole_frame(data, place, self.next)
            if length is None:
                self._check_torn(data, place)
                return
            body = memoryview(data)[place + _FRAME_BYTES : place + length]
            # Only whole frames count: a caller may stop in the middle of none.
            changes = [(n, decoded(c)) for n, c in enumerate(_parts(body), self.next)]
            place += length
            self.end += length
            self.next += len(changes)
            yield from changes

    def _check_torn(self, data: bytes, place: int) -> None:
        """Raises unless what is at `place` is the last thing that was written."""
        behind = place
        while (behind := data.find(_FRAME_MAGIC, behind + 1)) >= 0:
            header = _frame_header(data, behind)
            if header is not None and header[1] > self.next:
                raise ValueError(
                    f"{self._path!r} is damaged at byte {self.end}: changes from "
                    f"number {self.next} on cannot be read, and later ones can. "
                    "Restore the directory from a copy."
                )


def _frame(first: int, changes: Sequence[Change]) -> bytes:
    parts = []
    for change in changes:
        data = encoded(change)
        parts += [_CHANGE.pack(len(data)), data]
    body = b"".join(parts)
    header = _FRAME.pack(_FRAME_MAGIC, len(body), first, len(changes), zlib.crc32(body))
    return b"".join([header, _CHECK.pack(zlib.crc32(header)), body])


def _frame_header(data: bytes, place: int) -> tuple[int, int, int, int] | None:
    """Length, first change, number of changes, checksum; None: no header is there."""
    header = data[place : place + _FRAME.size]
    check = data[place + _FRAME.size : place + _FRAME_BYTES]
    if len(check) < _CHECK.size or check != _CHECK.pack(zlib.crc32(header)):
        return None
    magic, length, first, count, body_check = _FRAME.unpack(header)
    return (length, first, count, body_check) if magic == _FRAME_MAGIC else None


def _whole_frame(data: bytes, place: int, expected: int) -> int | None:
    """The length of the frame at `place`; None where it is not whole."""
    header = _frame_header(data, place)
    if header is None:
        return None
    length, first, _, body_check = header
    body = memoryview(data)[place + _FRAME_BYTES : place + _FRAME_BYTES + length]
    if len(body) < length or zlib.crc32(body) != body_check or first != expected:
        return None
    return _FRAME_BYTES + length


def _parts(body: memoryview) -> Iterator[bytes]:
    place = 0
    while place < len(body):
        (length,) = _CHANGE.unpack_from(body, place)
        place += _CHANGE.size
        yield bytes(body[place : place + length])
        place += length


def _write_at(file: int, data: bytes, place: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(file, rest, place)
        rest, place = rest[written:], place + written
