"""Writing an export so that its folder is always whole."""

import json
import os
import shutil

from tfrs_negatives._publish import hidden_siblings, publish

# TensorFlow Serving leaves this sub-folder of a SavedModel to its users.
MARKER = os.path.join("assets.extra", "tfrs_negatives.json")


def check_target(path, overwrite):
    """Returns the absolute path, if an export may be written there.

    Raises:
      ValueError: if something is there that must not be replaced.
    """
    path = os.path.realpath(os.fspath(path))
    if not os.path.lexists(path):
        return path
    if not os.path.isdir(path):
        raise ValueError(f"{path!r} is a file. Export to another path.")
    if not os.listdir(path):
        return path
    if not os.path.isfile(os.path.join(path, MARKER)):
        raise ValueError(
            f"{path!r} holds something other than an export of tfrs_negatives, which "
            "is never replaced. Export to another path."
        )
    if not overwrite:
        raise ValueError(
            f"{path!r} holds an earlier export. Pass overwrite=True to replace it, or "
            "export to another path."
        )
    return path


def write_atomically(path, save, metadata):
    """Writes into a hidden sibling folder, and gives it its name at the end.

    An earlier export is moved aside for the moment between two renames; should the
    process die exactly there, it is the sibling that ends in `.old`.

    Args:
      path: What `check_target` returned.
      save: Function that writes the SavedModel into the folder it is given.
      metadata: Dict for the marker file, as JSON.
    """
    new, old = hidden_siblings(path)
    try:
        save(new)
        os.makedirs(os.path.dirname(os.path.join(new, MARKER)), exist_ok=True)
        with open(os.path.join(new, MARKER), "w", encoding="utf-8") as file:
            json.dump(metadata, file, indent=2)
        publish(new, path, old)
    finally:
        shutil.rmtree(new, ignore_errors=True)
