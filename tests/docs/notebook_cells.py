"""The cells of a notebook, run in order without Jupyter.

`python tests/docs/notebook_cells.py NOTEBOOK` runs a notebook, and stores what it
prints.
"""

import contextlib
import io
import json
import pathlib
import sys


def read(path):
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))


def printed_by(cell):
    """What a cell's stored outputs say that it printed."""
    return "".join("".join(output["text"]) for output in cell["outputs"])


def run(path):
    """Pairs of a cell of code and what it prints now, in order."""
    names = {}
    for cell in read(path)["cells"]:
        if cell["cell_type"] != "code":
            continue
        printed = io.StringIO()
        code = compile("".join(cell["source"]), f"{path}, {cell['id']}", "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        yield cell, printed.getvalue()


def main(path):
    notebook, printed = read(path), {}
    for number, (cell, text) in enumerate(run(path), 1):
        printed[cell["id"]] = number, text
        print(text, end="", flush=True)
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        cell["execution_count"], text = printed[cell["id"]]
        lines = text.splitlines(keepends=True)
        output = {"name": "stdout", "output_type": "stream", "text": lines}
        cell["outputs"] = [output] if text else []
    text = json.dumps(notebook, indent=1, ensure_ascii=False)
    pathlib.Path(path).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
