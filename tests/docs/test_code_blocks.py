"""The code of README and documentation runs as it is written.

`page_setups` makes what a page takes for granted. What cannot run has a comment above
its fence that says why: `<!-- Not run: reason -->`.
"""

import collections
import dataclasses
import re
import shlex

import pytest
from code_blocks import ROOT, blocks
from page_setups import CHECKS, SETUPS

from tfrs_negatives.cli import arguments

PYTHON = collections.defaultdict(list)
for _block in blocks("python"):
    PYTHON[_block.page].append(_block)


# Why pages are slow.
SLOW = {
    "docs/distribution.md": "four replicas take long to trace",
    "docs/migrate_from_tfrs.md": "trains models of TFRS and the same of ours",
    "docs/quickstart.md": "three models are trained and evaluated",
    "docs/recommender.md": "trains two models",
}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            p,
            marks=pytest.mark.slow(reason=SLOW[p]) if p in SLOW else (),
        )
        for p in PYTHON
    ],
)
def test_python(page, tmp_path, monkeypatch):
    if page in ("docs/retrieval_index.md", "docs/mining.md"):
        pytest.importorskip("scann")
    if page == "docs/data_engine.md":
        pytest.importorskip("apache_beam", reason="no Apache Beam: make test-beam")
    monkeypatch.chdir(tmp_path)
    names = SETUPS[page](tmp_path)
    for block in PYTHON[page]:
        if block.reason is None:
            # A folder of the whole machine's.
            text = block.text.replace('"/shared', f'"{tmp_path}/shared')
            exec(dataclasses.replace(block, text=text).code(), names)
    if page in CHECKS:
        CHECKS[page](names)


def test_few_blocks_cannot_run():
    reasons = [block.reason for block in blocks("python") if block.reason]
    assert len(reasons) <= 3
    assert all("tests/" in reason or "examples/" in reason for reason in reasons)


def commands():
    """Commands of shell blocks, one a line, split into words."""
    for language in ("sh", ""):
        for block in blocks(language):
            for line in block.text.replace("\\\n", " ").splitlines():
                if not language and not line.startswith(("python ", "pip ")):
                    continue  # A drawing.
                words = shlex.split(line, comments=True)
                if words:
                    yield block.page, words


SHELL = list(commands())


@pytest.mark.parametrize(
    "words",
    [words for _, words in SHELL if words[0] == "tfrs-negatives"],
    ids=lambda words: " ".join(words[1:3]),
)
def test_commands_of_the_console_script(words):
    options = arguments.parse(words[1:])
    assert options.command == words[1]


def source_of(words):
    """The code that takes a command's options: a script's, or a benchmark's."""
    paths = words[:1]
    if words[0] == "-m":
        common = "benchmarks/common"
        paths = [f"{common}/command_line.py", f"{common}/plots.py"]
        paths.append(f"{words[1].replace('.', '/')}.py")
    return "".join((ROOT / path).read_text(encoding="utf-8") for path in paths)


def test_other_commands():
    """Files, targets and extras that they name are there."""
    makefile, setup = (ROOT / name for name in ("Makefile", "setup.cfg"))
    seen = collections.Counter()
    for page, words in SHELL:
        seen[words[0]] += 1
        if words[0] == "python":
            source = source_of(words[1:])
            for word in words[2:]:
                if word.startswith("--"):
                    assert f'"{word}"' in source, (page, words)
        elif words[0] == "make":
            targets = re.findall(r"^[\w-]+(?=:)", makefile.read_text(), re.MULTILINE)
            assert words[1] in targets, page
        elif words[0] == "pip":
            extras = re.findall(r"\[(.+?)\]", " ".join(words))
            for extra in re.split(r",\s*", ",".join(extras)):
                pattern = rf"^{extra} = *$"  # An sdist has spaces there.
                assert not extra or re.search(pattern, setup.read_text(), re.MULTILINE)
    assert seen["python"] >= 5 and seen["make"] == 2 and seen["pip"] >= 2
