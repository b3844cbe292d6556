"""What signatures say: to mypy and editors, and to `help`."""

from __future__ import annotations

import ast
import inspect
import pathlib
import pydoc
import subprocess
import sys
import typing

import pytest
import tensorflow as tf

import tfrs_negatives
from tfrs_negatives._keras import keras, with_signature_of

ROOT = pathlib.Path(tfrs_negatives.__file__).parents[1]
PACKAGE = ROOT / "tfrs_negatives"


def is_public(name):
    return not name.startswith("_") or name in ("__init__", "__call__")


def public_functions(node, owner=""):
    """Public functions and methods below a module or class, with qualified names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            if is_public(child.name):
                yield owner + child.name, child
        elif isinstance(child, ast.ClassDef):
            if is_public(child.name):
                yield from public_functions(child, f"{owner}{child.name}.")
        elif isinstance(child, ast.If | ast.Try | ast.With):
            yield from public_functions(child, owner)


def without_annotation(name, function):
    """What of a function has none: names of arguments, and "return"."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    decorators = {d.id for d in function.decorator_list if isinstance(d, ast.Name)}
    if "." in name and "staticmethod" not in decorators:
        positional = positional[1:]  # self or cls
    others = [*arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
    missing = [a.arg for a in [*positional, *others] if a and a.annotation is None]
    return missing + (["return"] if function.returns is None else [])


def missing_annotations(source):
    """Dict from each public function of a module to what it lacks, if anything."""
    return {
        name: without_annotation(name, function)
        for name, function in public_functions(ast.parse(source))
    }


def test_every_public_function_is_annotated():
    missing, count = [], 0
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).as_posix()
        functions = missing_annotations(path.read_text(encoding="utf-8"))
        count += len(functions)
        missing += [
            f"{module}: {name}: {', '.join(lacks)}"
            for name, lacks in functions.items()
            if lacks
        ]
    share = 1 - len(missing) / count
    report = "\n".join([f"{share:.1%} of {count} are annotated; not:", *missing])
    assert not missing, report


def test_what_counts_as_annotated():
    source = """
def whole(a: int, *args: str, b: int = 1, **kwargs: str) -> None:
    def nested(c): ...

def half(a: int, b, /, *args, c, **kwargs) -> None: ...

def _private(a): ...

class Public:
    def __init__(self, a): ...
    def __call__(self) -> int: ...
    def __repr__(self): ...
    @staticmethod
    def static(a) -> None: ...
    @classmethod
    def of_class(cls) -> None: ...
    class Inner:
        async def method(self) -> None: ...

class _Private:
    def method(self, a): ...

if True:
    def conditional(): ...
"""
    assert missing_annotations(source) == {
        "whole": [],
        "half": ["b", "c", "args", "kwargs"],
        "Public.__init__": ["a", "return"],
        "Public.__call__": [],
        "Public.static": ["a"],
        "Public.of_class": [],
        "Public.Inner.method": [],
        "conditional": ["return"],
    }


def test_a_build_holds_the_marker_of_types_and_the_page(tmp_path):
    if not (ROOT / "setup.cfg").is_file():
        pytest.skip("no source tree")
    setup = [sys.executable, "-c", "import setuptools; setuptools.setup()", "--quiet"]
    egg_info = ["egg_info", "--egg-base", str(tmp_path)]
    build = ["build_py", "--build-lib", str(tmp_path / "lib")]
    result = subprocess.run(
        [*setup, *egg_info, *build],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    built = tmp_path / "lib" / "tfrs_negatives"
    assert (built / "py.typed").is_file()
    for folder in ("_web", "audit/web", "cli/web"):
        assert list((built / folder).iterdir())


def test_loading_names_of_types_loads_no_tensorflow():
    code = "import sys, tfrs_negatives.types; assert 'tensorflow' not in sys.modules"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_names_of_types_can_be_looked_up():
    """By tools that read annotations at run time."""
    task, index = tfrs_negatives.tasks.Retrieval, tfrs_negatives.index.BruteForce
    uniform = tfrs_negatives.samplers.Uniform
    for function in (task.__init__, task.call, index.call, uniform.__init__):
        assert None not in typing.get_type_hints(function)
    taken = typing.get_args(typing.get_type_hints(task.call)["query_embeddings"])
    assert {tf.Tensor, tf.Variable} < set(taken)


class Doubling(keras.layers.Layer):
    def call(self, values: tf.Tensor, times: int = 1, *, up: bool = True) -> tf.Tensor:
        """Doubles values, several times, or halves them."""
        return values * (2.0 if up else 0.5) ** times

    @with_signature_of(call)
    def __call__(self, *args, **kwargs):
        return super().__call__(*args, **kwargs)


def test_a_layer_shows_the_arguments_of_its_call():
    layer = Doubling()
    assert list(inspect.signature(layer).parameters) == ["values", "times", "up"]
    assert inspect.signature(layer).parameters["times"].default == 1
    shown = "__call__(self, values: tf.Tensor, times: int = 1, *, up: bool = True)"
    assert shown in help_of(Doubling)
    assert layer.__call__.__doc__ == "Doubles values, several times, or halves them."


@pytest.mark.parametrize("make", [lambda layer: layer, tf.function])
def test_a_layer_takes_values_by_position_and_by_keyword(make):
    layer, one = make(Doubling()), tf.constant([1.0])
    assert layer(one).numpy() == [2.0]
    assert layer(one, 3).numpy() == [8.0]
    assert layer(one, times=3, up=False).numpy() == [0.125]
    assert layer(values=one, times=2).numpy() == [4.0]
    with pytest.raises(TypeError):
        layer(one, 3, True)
    with pytest.raises(TypeError):
        layer(one, 3, times=3)


def test_the_task_shows_its_arguments():
    task = tfrs_negatives.tasks.Retrieval
    names = list(inspect.signature(task).parameters)
    assert names[:2] == ["loss", "metrics"]
    assert "sampling_correction" in names
    call = inspect.signature(task.call)
    assert list(call.parameters)[1:3] == ["query_embeddings", "candidate_embeddings"]
    assert inspect.signature(task.__call__) == call
    assert list(inspect.signature(task()).parameters) == list(call.parameters)[1:]
    text = help_of(task)
    assert "class Retrieval(" in text and " Retrieval(loss: " in text
    assert "__call__(self, query_embeddings: TensorLike, candidate_embed" in text


def help_of(subject):
    """What `help` prints, on one line and without the quotes of annotations."""
    text = pydoc.plain(pydoc.render_doc(subject))
    # Python 3.13 puts each argument of a long signature on a line of its own.
    lines = (line.lstrip(" |") for line in text.replace("'", "").splitlines())
    return " ".join(" ".join(lines).split()).replace("( ", "(")
