"""The one module that knows how Keras 2 and Keras 3 differ.

The active Keras is `tf.keras`: Keras 2 (`tf_keras`) when
`TF_USE_LEGACY_KERAS=1` was set before TensorFlow was imported, Keras 3
otherwise. TensorFlow Recommenders needs Keras 2 and is imported only there.
"""

from __future__ import annotations

import functools
import inspect
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import tensorflow as tf
from tensorflow.python.autograph.core import ag_ctx

from tfrs_negatives.types import KerasLayer, KerasModel

keras = tf.keras
IS_KERAS_3 = hasattr(keras, "ops")  # Keras 2's `tf.keras` carries no version.

if TYPE_CHECKING or IS_KERAS_3:

    class Task:
        """Marks a layer as a task; `tfrs.tasks.Task` under Keras 2."""

else:
    try:
        from tensorflow_recommenders.tasks import Task  # noqa: F401
    except tf.errors.OpError as error:
        # It imports scann where there is one, and expects no error but ImportError.
        raise ImportError(
            "TensorFlow Recommenders imports scann, which was built for another "
            f"TensorFlow than {tf.__version__} ({str(error).splitlines()[0]}). Run "
            "`pip uninstall scann`, or `pip install tfrs_negatives[scann]`, which "
            "installs the TensorFlow that it needs."
        ) from error

_Arguments = ParamSpec("_Arguments")
_Returned = TypeVar("_Returned")


def add_state(
    layer: KerasLayer,
    name: str,
    shape: Sequence[int | None],
    dtype: str,
    initializer: Any = "zeros",
) -> tf.Variable:
    """Adds a non-trainable variable that all replicas share.

    Every replica is expected to apply the same update, so the first replica's
    value stands for all. The dtype is kept under mixed precision.

    Args:
      layer: The Keras layer that owns the state.
      name: Name of the variable.
      shape: Its shape.
      dtype: Its dtype, a string.
      initializer: A Keras initializer.

    Returns:
      The underlying `tf.Variable`.
    """
    if IS_KERAS_3:
        weight = layer.add_weight(
            name=name,
            shape=shape,
            dtype=dtype,
            initializer=initializer,
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )
        return weight.value
    return layer.add_weight(
        name=name,
        shape=shape,
        dtype=dtype,
        initializer=initializer,
        trainable=False,
        experimental_autocast=False,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


def with_signature_of(
    call: Callable[_Arguments, _Returned],
) -> Callable[[Callable[..., Any]], Callable[_Arguments, _Returned]]:
    """Makes a layer's `__call__` show the arguments and documentation of its `call`.

    Keras's own shows `*args, **kwargs` to `help` and to editors. Use it where `call`
    takes no `*args`:

    ```python
    class Layer(keras.layers.Layer):
        def call(self, ids: TensorLike) -> tf.Tensor:
            ...

        @with_signature_of(call)
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return super().__call__(*args, **kwargs)
    ```
    """

    signature = inspect.signature(call)
    names = [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ][2:]

    def decorate(function: Callable[..., Any]) -> Callable[_Arguments, _Returned]:
        def __call__(self: KerasLayer, *args: Any, **kwargs: Any) -> Any:
            # Keras 3 takes Python values by keyword alone. `tf.function` passes by
            # position whatever a signature lets it.
            if len(args) > 1 + len(names):
                signature.bind(self, *args, **kwargs)  # Raises what Python does.
            others = dict(zip(names, args[1:], strict=False))
            return function(self, *args[:1], **others, **kwargs)

        __call__.__doc__ = call.__doc__
        __call__.__signature__ = signature  # type: ignore[attr-defined]
        return cast(Callable[_Arguments, _Returned], __call__)

    return decorate


# What is in force where nobody has chosen whether to convert.
_NO_CHOICE = ag_ctx.ControlStatusCtx(ag_ctx.Status.UNSPECIFIED)


def unconverted(
    call: Callable[_Arguments, _Returned],
) -> Callable[_Arguments, _Returned]:
    """Spares autograph a layer's `call`, and what of this package it calls.

    Keras 2 converts a model's step to find Python's `if` and `for` over tensors. The
    package has one, `if training`; where that is a bool, to look for others takes
    seconds of a first step. Layers, losses and metrics that Keras calls from there are
    converted as ever: they may be a user's. What of a user's is called without Keras
    goes through `converted`. Eager code is not converted: it can read a tensor.
    """
    signature = inspect.signature(call)

    def run(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Returned:
        given = signature.bind(*args, **kwargs).arguments
        branches = not tf.executing_eagerly() and tf.is_tensor(given.get("training"))
        return (_by_autograph(call) if branches else call)(*args, **kwargs)

    wrapped = tf.__internal__.autograph.tf_convert(
        functools.wraps(call)(run), _NO_CHOICE, convert_by_default=False
    )
    wrapped.__signature__ = signature  # Which Keras 2 reads.
    return cast(Callable[_Arguments, _Returned], wrapped)


def converted(
    call: Callable[_Arguments, _Returned],
) -> Callable[_Arguments, _Returned]:
    """A user's function or method as Keras 2 calls it, by way of autograph.

    Itself where there is nothing to convert: in eager code, and where it turns out to
    be this package's, such as a method that a user's class inherits.
    """
    of_package = call.__module__.partition(".")[0] == __package__
    return call if tf.executing_eagerly() or of_package else _by_autograph(call)


def _by_autograph(
    call: Callable[_Arguments, _Returned],
) -> Callable[_Arguments, _Returned]:
    autograph = tf.__internal__.autograph
    function = autograph.tf_convert(call, autograph.control_status_ctx())
    return cast(Callable[_Arguments, _Returned], function)


def without_arguments(error: ValueError) -> ValueError:
    """The `ValueError` of a layer's call, its reason alone.

    Keras puts all arguments behind it, a screen of them for a call that takes many. In
    a graph, lines of code come before it; those of this package help nobody.
    """
    reason = re.split(r"\s*(?:Call a|A)rguments received by ", str(error))[0]
    if "in user code:" not in reason:
        return ValueError(reason).with_traceback(error.__traceback__)
    # The traceback would bring the lines back.
    reason = _OWN_LINES.sub("", reason)
    if not _LINES.search(reason):
        reason = textwrap.dedent(re.split(r"\n *ValueError: ", reason)[-1])
    return ValueError(reason.strip())


# What autograph writes of a line of code: its file, and the line itself.
_LINES = re.compile(r' *File "[^"]*", line .*\n.*\n+')
_OWN_FOLDER = re.escape(os.path.dirname(__file__))
_OWN_LINES = re.compile(
    rf' *File "(?:{_OWN_FOLDER}|[^"]*__autograph_generated_file)'
    r'[^"]*", line .*\n.*\n+'
)


def note_inputs(model: KerasModel, inputs: Any) -> None:
    """Tells a model what it is called with, where another method than `call` is used.

    Keras 2 cannot save a model as a SavedModel before it knows that.
    """
    if not IS_KERAS_3 and model._saved_model_inputs_spec is None:
        model._set_save_spec(inputs)


class Untracked:
    """Holds what Keras must neither track, save, nor wrap.

    Attributes:
      value: What is held.
    """

    def __init__(self, value: Any) -> None:
        self.value = value
