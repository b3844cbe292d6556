"""A folder that appears whole, or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from types import TracebackType

from tfrs_negatives import _manifest
from tfrs_negatives._publish import hidden_sibling, publish, remove_unfinished
from tfrs_negatives.cli.command_error import CommandError
from tfrs_negatives.cli.output_lock import OutputLock, digest
from tfrs_negatives.types import PathLike

MANIFEST = "manifest.json"


class OutputFolder:
    """Collects output in a hidden sibling, and gives it its name at the end.

    ```python
    with OutputFolder(path, command) as output:
        ...  # write into `output.folder`
    print(output.path)
    ```

    A manifest with checksums is added. An earlier output of the command is replaced
    in one step if its files are as its manifest says and there are no others. Looked
    for before the block, any other file is an error; at its end the output goes to
    another name beside it, and a note says so. Nothing is left behind when the block
    raises.

    Args:
      path: The folder to write.
      command: The command that writes it, which its manifest names.

    Attributes:
      folder: Where to write, in the block.
      path: Where the output is, after the block.

    Raises:
      CommandError: On entry: something else is there, the place cannot be written to,
        or another process writes there. At the end: it could not be written.
    """

    def __init__(self, path: PathLike, command: str) -> None:
        self.path = os.fspath(path)
        self._command = command
        self._target = os.path.realpath(self.path)
        # There on entry.
        self.folder: str
        self._lock: OutputLock
        self._made: os.stat_result

    def __enter__(self) -> OutputFolder:
        self._check()
        owner = digest(self._target)
        self.folder = hidden_sibling(self._target, owner)
        parent = os.path.dirname(self.folder)
        if not os.access(parent, os.W_OK):
            raise CommandError(
                f"Expected a place that can be written to, received {self.path!r}. "
                "Name another --output."
            )
        self._lock = OutputLock(parent, self._target)
        self._lock.acquire()
        try:
            if self._lock.is_held:  # Nobody else writes what is left there.
                remove_unfinished(self._target, owner)
            os.mkdir(self.folder)
            self._made = os.stat(self.folder)
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._finish()
        except OSError as failure:
            raise CommandError(
                f"The output {self.path!r} cannot be written ({failure}). What was "
                "there is whole. Free space, or name another --output."
            ) from failure
        finally:
            # Or it is an earlier one, whose name could not be given back.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(self.folder), self._made):
                    shutil.rmtree(self.folder, ignore_errors=True)
            self._lock.release()

    def _check(self) -> None:
        if not os.path.lexists(self._target):
            return
        if not os.path.isdir(self._target):
            raise CommandError(
                f"Expected a folder to write, received {self.path!r}, which is a "
                "file. Name another --output."
            )
        if os.path.ismount(self._target) or os.path.samefile(self._target, os.getcwd()):
            raise CommandError(
                "Expected a folder that can be put in the place of another, received "
                f"{self.path!r}, which is mounted or where you are. Name a folder in "
                "it: --output "
                f"{os.path.join(self.path, 'output')}"
            )
        if os.listdir(self._target):
            try:
                self._replaceable(self._target)
            except ValueError as error:
                raise CommandError(f"{error} Name another --output.") from error

    def _replaceable(self, folder: str) -> list[str]:
        """Names of the files of an earlier output.

        Raises:
          ValueError: There are others, or it is none.
        """
        try:
            with open(os.path.join(folder, MANIFEST), encoding="utf-8") as file:
                manifest = json.load(file)
            is_ours = manifest["command"] == self._command
            files = dict(manifest["files"])
        except (OSError, ValueError, KeyError, TypeError):
            is_ours, files = False, {}
        if not is_ours:
            raise ValueError(
                "Expected a new folder, an empty one or an earlier output of this "
                f"command, received {self.path!r}, which holds something else."
            )
        others = _manifest.others(folder, files, also=[MANIFEST])
        if others:
            raise ValueError(
                f"{self.path!r} holds an earlier output and files that were added "
                f"or changed since, {_manifest.listed(others)}, which are never "
                "replaced. Move them."
            )
        return [*files, MANIFEST]

    def _finish(self) -> None:
        files = _manifest.checksums(self.folder)
        with open(
            os.path.join(self.folder, MANIFEST), "w", encoding="utf-8"
        ) as manifest:
            json.dump(
                {"command": self._command, "files": files},
                manifest,
                indent=1,
                allow_nan=False,
            )
        try:
            left = publish(self.folder, self._target, self._replaceable)
        except (OSError, ValueError) as reason:
            wanted, self.path = self.path, self._publish_beside()
            _note(f"{wanted} was not written. {reason} The output is in {self.path}")
        else:
            if left:
                _note(
                    f"something was written into {self.path} while it was replaced; "
                    f"it is in {left}"
                )

    def _publish_beside(self) -> str:
        """Puts the output under the first name like the wanted one that is free."""
        number = 0
        while True:
            number += 1
            path = f"{self._target}-{number}"
            if os.path.lexists(path):
                continue
            try:
                publish(self.folder, path)
                return path
            except OSError:
                if not os.path.lexists(path):  # Else somebody was faster.
                    raise


def _note(text: str) -> None:
    print(f"note: {' '.join(text.split())}", file=sys.stderr)
