"""Where data sets lie."""

import os
import pathlib


def data_file(name):
    """The path of a data set's file, or folder, in the folder of data sets."""
    folder = pathlib.Path(os.environ.get("TFRS_NEGATIVES_DATA", "../shared/data"))
    if not (folder / name).exists():
        raise SystemExit(
            f"{folder / name} is missing: give its folder by --data or in "
            "TFRS_NEGATIVES_DATA."
        )
    return folder / name
