"""A folder that appears whole, or not at all."""

import json
import os
import shutil

from tfrs_negatives._publish import hidden_siblings, publish

FIGURES = "figures.json"
COMMAND = "tfrs-negatives train"


class OutputFolder:
    """Collects output in a hidden sibling, and gives it its name at the end.

    ```python
    with OutputFolder(path) as folder:
        ...  # write into `folder`, among others `marker` with "command": `command`
    ```

    An earlier output of this command is replaced; anything else that is there stays
    and is an error. Nothing is left behind when the block raises.

    Args:
      path: The folder to write.
      marker: Name of the JSON file that says which command wrote the folder.
      command: What it says.

    Raises:
      ValueError: Something else is there, or the place cannot be written to.
    """

    def __init__(self, path, marker=FIGURES, command=COMMAND):
        self.path = os.path.realpath(os.fspath(path))
        if os.path.lexists(self.path) and not os.path.isdir(self.path):
            raise ValueError(
                f"Expected a folder to write, received {path!r}, which is a file. "
                "Name another --output."
            )
        if os.path.isdir(self.path) and os.listdir(self.path):
            if not _is_earlier_output(self.path, marker, command):
                raise ValueError(
                    f"Expected a new folder, an empty one or an earlier output of "
                    f"this command, received {path!r}, which holds something else. "
                    "Name another --output."
                )
        # Made at the end, with the folder itself.
        self._new, self._old = hidden_siblings(self.path)
        parent = os.path.dirname(self._new)
        if not os.access(parent, os.W_OK):
            raise ValueError(
                f"Expected a place that can be written to, received {path!r}. Name "
                "another --output."
            )

    def __enter__(self):
        os.mkdir(self._new)
        return self._new

    def __exit__(self, kind, error, traceback):
        try:
            if kind is None:
                publish(self._new, self.path, self._old)
        finally:
            shutil.rmtree(self._new, ignore_errors=True)


def _is_earlier_output(path, marker, command):
    try:
        with open(os.path.join(path, marker), encoding="utf-8") as file:
            return json.load(file).get("command") == command
    except (OSError, ValueError, AttributeError):
        return False
