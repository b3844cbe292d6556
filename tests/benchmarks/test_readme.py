"""What README.md of the benchmarks lists is there, and all that is there is listed."""

import os
import re
import subprocess
import sys

import pytest

from benchmarks.common.provenance import PROJECT

FOLDER = PROJECT / "benchmarks"
README = (FOLDER / "README.md").read_text(encoding="utf-8")
# Processes that a script starts.
WORKERS = ("worker", "grpc_load")
NEEDED = {
    "benchmarks.audit.screenshot": "selenium",
    "benchmarks.index.overhead": "scann",
    "benchmarks.serving.run": "psutil",
}


def rows():
    """Cells of the table of scripts."""
    for line in README.splitlines():
        if line.startswith("| `python -m benchmarks."):
            cells = [cell.strip() for cell in line.strip("|").split(" | ")]
            yield re.search(r"python -m ([\w.]+)", cells[0])[1], cells


LISTED = dict(rows())


def test_every_script_is_listed():
    scripts = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts)
        for path in FOLDER.rglob("*.py")
        if '__name__ == "__main__"' in path.read_text(encoding="utf-8")
        and not path.stem.endswith(WORKERS)
    }
    assert scripts == set(LISTED)


@pytest.mark.parametrize("module", [m for m, cells in LISTED.items() if len(cells) > 3])
def test_rows_and_pages_are_there(module):
    _, _, files, pages, minutes = LISTED[module]
    names = re.findall(r"`([\w/]+\.csv)`", files.replace("TABLE", "gowalla"))
    assert names or files.startswith(("those of", "none"))
    for name in names:
        assert (FOLDER / name).exists()
    for page in re.findall(r"`(docs/\w+\.md)`", pages):
        text = (PROJECT / page).read_text(encoding="utf-8")
        assert module in text or module.replace(".", "/") in text, (module, page)
    assert int(minutes.split()[0]) > 0


@pytest.mark.parametrize("module", LISTED)
def test_options_of_commands_are_there(module):
    source = (PROJECT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
    options = re.findall(r"--[\w-]+", LISTED[module][0])
    for option in options:
        has_data = option == "--data" and "data=True" in source
        assert has_data or f'"{option}"' in source, (module, option)


@pytest.mark.slow(reason="starts every script")
@pytest.mark.parametrize("module", LISTED)
def test_commands_start(module):
    if module in NEEDED:
        pytest.importorskip(NEEDED[module])
    found = subprocess.run(
        [sys.executable, "-m", module, "--help"],
        cwd=PROJECT,
        env={**os.environ, "TF_USE_LEGACY_KERAS": "1"},
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stderr
    assert f"python -m {module}" in found.stdout


def test_no_module_changes_where_python_looks():
    for path in FOLDER.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "sys.path" not in text, path
        if path.name == "__init__.py":
            assert text.startswith('"""'), path
    for folder in {path.parent for path in FOLDER.rglob("*.py")}:
        assert (folder / "__init__.py").exists(), folder
