"""The output of a step: shards that are kept while it runs, and appear at its end."""

from __future__ import annotations

import contextlib
import io
import json
import os
import posixpath
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pf
import pyarrow.parquet as pq

from tfrs_negatives.data.file_systems import file_system
from tfrs_negatives.types import PathLike

# What is no data of the output: readers pass over such names.
_DESCRIPTION, _DONE = "_step.json", "_SUCCESS"
# Rows of a row group: what a reader holds.
_GROUP = 131_072


class StepFolder:
    """Files of a step, in a hidden sibling of its output until all are there.

    A file appears whole, under a name that says which it is, and holds the same bytes
    whoever wrote it. So a step that was ended goes on with what is missing. On this
    machine's file systems the output appears in one step. Elsewhere its files are moved
    one by one, and it is whole when it has `_SUCCESS`.

    Args:
      output: Where the output goes: a path that all workers have, or `scheme://...`.
      description: What is computed from which input, as JSON can hold it.
    """

    def __init__(self, output: PathLike, description: Mapping[str, Any]) -> None:
        self._written = os.fspath(output)
        self._description = json.loads(json.dumps(description))
        system, path = file_system(self._written)
        self._system, self._is_remote = system.arrow, system.is_remote
        path = path.rstrip("/") if self._is_remote else os.path.abspath(path)
        self._output = path
        parent, name = posixpath.split(path)
        self._work = posixpath.join(parent, f".{name}.unfinished")

    def begin(self) -> bool:
        """Makes room for files, or finds those that are there.

        Returns:
          Whether there is anything to do.

        Raises:
          ValueError: Something else is at that path.
        """
        there = self._system.get_file_info(self._output).type
        if there != pf.FileType.NotFound:
            is_ours = self._text(self._output, _DESCRIPTION) == self._description
            if is_ours and self._has(self._output, _DONE):
                return False
            if not (is_ours and self._is_remote):
                raise ValueError(
                    f"Expected a path where nothing is, or what this step wrote of the "
                    f"same input, received {self._written!r}. Name another output."
                )
        if self._text(self._work, _DESCRIPTION) != self._description:
            if self._system.get_file_info(self._work).type != pf.FileType.NotFound:
                self._system.delete_dir(self._work)  # Of another input.
            self._system.create_dir(self._work, recursive=True)
            self.write_json(_DESCRIPTION, self._description)
        return True

    def has(self, name: str) -> bool:
        """Whether a file is there, in the work or in the output."""
        return self._has(self._work, name) or (
            self._is_remote and self._has(self._output, name)
        )

    def write_table(self, name: str, table: pa.Table) -> None:
        """Writes a Parquet file."""
        sink = io.BytesIO()
        pq.write_table(table, sink, row_group_size=_GROUP, compression="zstd")
        self._write(name, sink.getvalue())

    def write_json(self, name: str, value: Any) -> None:
        """Writes a JSON file."""
        self._write(name, json.dumps(value, sort_keys=True).encode("utf-8"))

    def write_text(self, name: str, text: str) -> None:
        """Writes a file of text."""
        self._write(name, text.encode("utf-8"))

    def read_json(self, name: str) -> Any:
        """What a JSON file of the work holds; None: it is not there."""
        return self._text(self._work, name)

    def read_output(self, name: str) -> Any:
        """What a JSON file of the output holds."""
        return self._text(self._output, name)

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder of the work, sorted."""
        path = posixpath.join(self._work, folder.rstrip("/"))
        found = self._system.get_file_info(pf.FileSelector(path))
        names = [posixpath.basename(info.path) for info in found]
        kept = [name for name in names if not name.startswith(".")]
        return [posixpath.join(folder, name) for name in sorted(kept)]

    def num_rows(self, name: str) -> int:
        """How many rows a Parquet file has."""
        return pq.read_metadata(self._place(name), filesystem=self._system).num_rows

    def metadata(self, name: str, key: str) -> str:
        """A value that was written beside the rows of a Parquet file."""
        schema = pq.read_schema(self._place(name), filesystem=self._system)
        return schema.metadata[key.encode("utf-8")].decode("utf-8")

    def table(self, name: str) -> pa.Table:
        """All rows of a Parquet file."""
        with self._system.open_input_file(self._place(name)) as file:
            return pq.ParquetFile(file).read().replace_schema_metadata()

    def column(self, name: str, column: str) -> np.ndarray:
        """A column of a Parquet file."""
        with self._system.open_input_file(self._place(name)) as file:
            return pq.ParquetFile(file).read([column]).column(0).to_numpy()

    def discard(self) -> None:
        """Removes the work, so that the step begins again."""
        self._system.delete_dir(self._work)

    def finish(self, names: list[str]) -> None:
        """Gives the output its name.

        Args:
          names: Of its files; others, such as those of workers that died, are deleted.
        """
        self._write(_DONE, b"")
        kept = {*names, _DESCRIPTION, _DONE}
        selector = pf.FileSelector(self._work, recursive=True)
        for info in self._system.get_file_info(selector):
            name = info.path[len(self._work) :].strip("/")
            if info.type == pf.FileType.File and name not in kept:
                self._system.delete_file(info.path)
        if not self._is_remote:
            self._system.move(self._work, self._output)
            return
        self._system.create_dir(self._output, recursive=True)
        for name in (*names, _DESCRIPTION, _DONE):
            if self._has(self._work, name):
                target = posixpath.join(self._output, name)
                self._system.create_dir(posixpath.dirname(target), recursive=True)
                self._system.move(posixpath.join(self._work, name), target)
        self._system.delete_dir(self._work)

    def _write(self, name: str, data: bytes) -> None:
        path = posixpath.join(self._work, name)
        folder, last = posixpath.split(path)
        self._system.create_dir(folder, recursive=True)
        new = posixpath.join(folder, f".{last}.{uuid.uuid4().hex}")
        with self._system.open_output_stream(new) as file:
            file.write(data)
        self._system.move(new, path)

    def _place(self, name: str) -> str:
        folder = self._work if self._has(self._work, name) else self._output
        return posixpath.join(folder, name)

    def _has(self, folder: str, name: str) -> bool:
        path = posixpath.join(folder, name)
        return self._system.get_file_info(path).type == pf.FileType.File

    def _text(self, folder: str, name: str) -> Any:
        path = posixpath.join(folder, name)
        with contextlib.suppress(OSError, ValueError):
            with self._system.open_input_stream(path) as file:
                return json.loads(file.read().decode("utf-8"))
        return None
