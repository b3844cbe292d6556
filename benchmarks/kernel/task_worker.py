"""Steps of a call of `tasks.Retrieval`, by the package in the folder it runs in."""

import pathlib
import sys

from benchmarks.common import worker


def main(call, rows, width, mode):
    import tfrs_negatives
    from benchmarks.kernel.task_calls import step

    found = pathlib.Path(tfrs_negatives.__file__).parents[1]
    if found != pathlib.Path.cwd():
        raise RuntimeError(
            f"Expected the package of {pathlib.Path.cwd()}, got {found}."
        )
    worker.answer(step(call, int(rows), 0, int(width), eager=mode == "task-eager"))


if __name__ == "__main__":
    worker.keep_output_clean()
    main(*sys.argv[1:])
