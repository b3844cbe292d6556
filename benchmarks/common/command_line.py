"""The command line that the benchmarks have alike."""

import argparse
import os
import pathlib
import tempfile


def parser(description, rows=None, data=False, quick=True):
    """An `argparse.ArgumentParser`; `parse` takes what is common from its arguments.

    Args:
      description: The module's docstring.
      rows: Path of the CSV that `--output` names by default, or None where there is no
        such option.
      data: Whether there is `--data`, the folder of data sets.
      quick: Whether there is `--quick`.
    """
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if rows is not None:
        made.add_argument(
            "--output",
            type=pathlib.Path,
            default=rows,
            help=f"CSV of the rows (default: {rows.name} beside this script)",
        )
    if data:
        made.add_argument(
            "--data",
            type=pathlib.Path,
            help="folder of the data sets (default: TFRS_NEGATIVES_DATA)",
        )
    if quick:
        made.add_argument(
            "--quick",
            action="store_true",
            help="smallest sizes, to see that it runs; rows go to a temporary folder",
        )
    return made


def parse(parser, words=None, **smallest):
    """The arguments, where `--quick` puts the smallest sizes in place of defaults.

    Args:
      parser: Of the function above.
      words: The command line; None: that of the process.
      **smallest: Values of arguments that are not given, with `--quick`.
    """
    arguments, _ = parser.parse_known_args(words)
    if getattr(arguments, "quick", False):
        if rows := parser.get_default("output"):
            folder = tempfile.mkdtemp(prefix="quick_benchmark_")
            smallest["output"] = pathlib.Path(folder, rows.name)
        parser.set_defaults(**smallest)
    arguments = parser.parse_args(words)
    if getattr(arguments, "data", None):
        # Processes that are started inherit it.
        os.environ["TFRS_NEGATIVES_DATA"] = str(arguments.data.resolve())
    return arguments
