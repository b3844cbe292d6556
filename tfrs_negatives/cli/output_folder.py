"""A folder that appears whole, or not at all."""

import json
import os
import shutil
import uuid

FIGURES = "figures.json"
COMMAND = "tfrs-negatives train"


class OutputFolder:
    """Collects output in a hidden sibling, and gives it its name at the end.

    ```python
    with OutputFolder(path) as folder:
        ...  # write into `folder`, among others FIGURES with "command": COMMAND
    ```

    An earlier output of this command is replaced; anything else that is there stays
    and is an error. Nothing is left behind when the block raises.

    Args:
      path: The folder to write.

    Raises:
      ValueError: Something else is there, or the place cannot be written to.
    """

    def __init__(self, path):
        self.path = os.path.realpath(os.fspath(path))
        if os.path.lexists(self.path) and not os.path.isdir(self.path):
            raise ValueError(
                f"Expected a folder to write, received {path!r}, which is a file. "
                "Name another --output."
            )
        if os.path.isdir(self.path) and os.listdir(self.path):
            if not _is_earlier_output(self.path):
                raise ValueError(
                    f"Expected a new folder, an empty one or an earlier output of "
                    f"this command, received {path!r}, which holds something else. "
                    "Name another --output."
                )
        parent, name = os.path.split(self.path)
        while not os.path.isdir(parent):  # Made at the end, with the folder itself.
            parent = os.path.dirname(parent)
        if not os.access(parent, os.W_OK):
            raise ValueError(
                f"Expected a place that can be written to, received {path!r}. Name "
                "another --output."
            )
        stem = os.path.join(parent, f".{name}.{uuid.uuid4().hex}")
        self._new, self._old = f"{stem}.new", f"{stem}.old"

    def __enter__(self):
        os.mkdir(self._new)
        return self._new

    def __exit__(self, kind, error, traceback):
        try:
            if kind is None:
                self._publish()
        finally:
            shutil.rmtree(self._new, ignore_errors=True)

    def _publish(self):
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        if os.path.isdir(self.path):
            os.rename(self.path, self._old)
        try:
            os.rename(self._new, self.path)
        except BaseException:
            if os.path.isdir(self._old):
                os.rename(self._old, self.path)
            raise
        shutil.rmtree(self._old, ignore_errors=True)


def _is_earlier_output(path):
    try:
        with open(os.path.join(path, FIGURES), encoding="utf-8") as file:
            return json.load(file).get("command") == COMMAND
    except (OSError, ValueError, AttributeError):
        return False
