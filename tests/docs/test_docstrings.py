"""Docstrings of public names: their sections, and their examples, which run.

An example takes for granted what every page of the documentation does: `np`, `tf`, and
the package as `tn`.
"""

import doctest
import inspect
import re

import numpy as np
import pytest
import tensorflow as tf

import tfrs_negatives as tn
from tfrs_negatives._keras import IS_KERAS_3

SECTIONS = (
    "Args",
    "Attributes",
    "Call arguments",
    "Returns",
    "Raises",
    "Reference",
    "Example",
)
NAMES = {name: getattr(tn, name) for name in dir(tn) if name != "__version__"}
PUBLIC = {
    **{name: value for name, value in NAMES.items() if not inspect.ismodule(value)},
    **{
        f"{module}.{name}": getattr(value, name)
        for module, value in NAMES.items()
        if inspect.ismodule(value)
        for name in value.__all__
    },
}
CLASSES = [name for name, value in PUBLIC.items() if inspect.isclass(value)]
EXAMPLES = [name for name, value in PUBLIC.items() if "Example:" in value.__doc__]
# Examples of these, and not those of the others, are the same whichever Keras there is.
FREE_OF_KERAS = ("audit.", "data.", "losses.", "pipeline.", "serving.", "teachers.")
NEEDS = {
    "index.ScaNN": "scann",
    "pipeline.audit_table": "apache_beam",
    "pipeline.corpus_recall": "apache_beam",
    "pipeline.count_column": "apache_beam",
    "pipeline.embed_rows": "apache_beam",
    "pipeline.mine_negatives": "apache_beam",
    "pipeline.order_by_request": "apache_beam",
    "pipeline.split_by_time": "apache_beam",
    "serving.Server": "grpc",
}

_HEADING = re.compile(r"^([A-Z][a-z]+(?: [a-z]+)?):$", re.MULTILINE)
_FENCED = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def sections(docstring):
    """What a docstring's sections hold, by their headings, in order."""
    pieces = _HEADING.split(inspect.cleandoc(docstring))
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


@pytest.mark.parametrize("name", PUBLIC)
def test_sections(name):
    found = list(sections(PUBLIC[name].__doc__))
    assert found == [section for section in SECTIONS if section in found]


def test_every_class_has_an_example():
    assert len(CLASSES) > 50
    assert not set(CLASSES) - set(EXAMPLES)


def as_a_parameter(name):
    """Slow where another name, or the other Keras, says all there is to say."""
    marks = []
    if IS_KERAS_3 and name.startswith(FREE_OF_KERAS):
        marks.append(pytest.mark.slow(reason="no Keras: fast under Keras 2"))
    if IS_KERAS_3 and name == "Recommender":
        marks.append(pytest.mark.slow(reason="trains two models: fast under Keras 2"))
    if name not in NAMES and PUBLIC[name] in NAMES.values():
        marks.append(pytest.mark.slow(reason="the same object by its shorter name"))
    return pytest.param(name, marks=marks)


@pytest.mark.parametrize("name", map(as_a_parameter, EXAMPLES))
def test_example(name):
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    names = {"np": np, "tf": tf, "tn": tn}
    text = inspect.cleandoc(sections(PUBLIC[name].__doc__)["Example"])
    example = doctest.DocTestParser().get_doctest(text, dict(names), name, None, None)
    assert doctest.DocTestRunner().run(example).failed == 0
    fenced = _FENCED.findall(text)
    for block in fenced:
        exec(compile(block, name, "exec"), dict(names))
    assert example.examples or fenced
