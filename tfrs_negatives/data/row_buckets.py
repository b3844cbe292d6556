"""Rows in buckets on disk, so that what belongs together is read together."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from tfrs_negatives._ids import mix
from tfrs_negatives.types import PathLike

#: Rows of equal key are in one of so many buckets.
NUM_BUCKETS = 256
#: Rows that wait in memory before they are written: smaller tables never are.
HELD_ROWS = 2**20
#: Rows of the buckets that are read together, unless one alone has more.
WINDOW_ROWS = 2**22


class RowBuckets:
    """Rows of one NumPy type, put into buckets by the hash of a key.

    Memory: `HELD_ROWS` rows while they are added, and what `read` returns, twice while
    it is put in order. On disk: the rows, in a file a bucket.

    Args:
      dtype: Structured type of a row, with the int64 field `row`, its place in the
        table.
      folder: Where files go, in a folder of their own.

    Attributes:
      dtype: As given.
      sizes: [`NUM_BUCKETS`] int64, how many rows each bucket has.

    Raises:
      OSError: No room, or no permission to write there.
    """

    def __init__(self, dtype: np.dtype, folder: PathLike) -> None:
        self.dtype = dtype
        self._within = folder
        self._folder: str | None = None
        self._held: list[tuple[np.ndarray, np.ndarray]] = []
        self.sizes = np.zeros(NUM_BUCKETS, np.int64)

    def __len__(self) -> int:
        return int(self.sizes.sum())

    def add(self, rows: np.ndarray, keys: np.ndarray) -> None:
        """Adds rows.

        Args:
          rows: [n] of the type.
          keys: [n] int64; rows of equal keys come into one bucket.
        """
        hashed = mix(tf.constant(keys.astype(np.int64).view(np.uint64))).numpy()
        buckets = (hashed >> np.uint64(56)).astype(np.uint8)
        self.sizes += np.bincount(buckets, minlength=NUM_BUCKETS)
        self._held.append((rows, buckets))
        if sum(len(rows) for rows, _ in self._held) >= HELD_ROWS:
            self._write()

    def windows(self, order: Iterable[int] | None = None) -> list[list[int]]:
        """Buckets to be read together: about `WINDOW_ROWS` rows, or one bucket.

        Args:
          order: Of the buckets; None: as they are numbered.

        Returns:
          Lists of numbers of buckets: one of all where all rows are a window.
        """
        windows: list[list[int]] = [[]]
        num_rows = 0
        for bucket in range(NUM_BUCKETS) if order is None else order:
            if windows[-1] and num_rows + self.sizes[bucket] > WINDOW_ROWS:
                windows.append([])
                num_rows = 0
            windows[-1].append(int(bucket))
            num_rows += self.sizes[bucket]
        return windows

    def read(self, buckets: Sequence[int]) -> np.ndarray:
        """The rows of some buckets in the order of the table.

        Raises:
          OSError: Files of rows were removed or cut since they were written.
        """
        found = [np.zeros(0, self.dtype)]
        if self._folder is not None:
            paths = [self._path(bucket) for bucket in buckets]
            found += [np.fromfile(p, self.dtype) for p in paths if os.path.exists(p)]
        wanted = np.zeros(NUM_BUCKETS, bool)
        wanted[list(buckets)] = True
        found += [rows[wanted[of_rows]] for rows, of_rows in self._held]
        rows = np.concatenate(found)
        del found
        expected = int(self.sizes[list(buckets)].sum())
        if len(rows) != expected:
            raise OSError(
                f"Expected {expected:,} rows in files of {self._folder!r}, received "
                f"{len(rows):,}: files were removed or cut. Run again, and leave the "
                "folder alone meanwhile."
            )
        return rows[np.argsort(rows["row"], kind="stable")]

    def forget(self, buckets: Sequence[int]) -> None:
        """Frees the disk of buckets that are not read again."""
        if self._folder is not None:
            for bucket in buckets:
                if os.path.exists(self._path(bucket)):
                    os.remove(self._path(bucket))

    def _write(self) -> None:
        """Appends what is held to the buckets' files."""
        rows = np.concatenate([rows for rows, _ in self._held])
        buckets = np.concatenate([of_rows for _, of_rows in self._held])
        self._held = []
        order = np.argsort(buckets, kind="stable")
        ends = np.cumsum(np.bincount(buckets, minlength=NUM_BUCKETS))
        try:
            if self._folder is None:
                self._folder = tempfile.mkdtemp(dir=self._within)
            for bucket, places in enumerate(np.split(order, ends[:-1])):
                if len(places):
                    with open(self._path(bucket), "ab") as file:
                        rows.take(places).tofile(file)
        except OSError as error:
            raise OSError(
                f"Expected room for {len(self) * self.dtype.itemsize:,} bytes of rows "
                f"or more in {os.fspath(self._within)!r}, received an error ({error}). "
                "Free space there, or name another folder."
            ) from error

    def _path(self, bucket: int) -> str:
        assert self._folder is not None
        return os.path.join(self._folder, f"{bucket}.rows")
