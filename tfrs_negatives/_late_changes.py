"""Changes of layers' state that wait until a step's loss is there.

A step can fail where no check could have told, such as for want of memory. What it
would have taught is then not learned.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfrs_negatives._xla import compiled_by_xla

_threads = threading.local()  # Replicas of one process trace in a thread each.


class LateChanges:
    """Holds back the changes that layers ask for within a `with` block.

    What layers ask for within a `tf.function`, `tf.cond` or loop inside the block
    cannot be held back: its tensors end there. Nor need it be where XLA compiles, which
    writes variables when all of the program has run.
    """

    def __init__(self) -> None:
        # By the layer's `id`: layers need not be hashable.
        self._changes: dict[int, tuple[Any, Callable[[Any], object]]] = {}
        self._graph = _current_graph()

    def __enter__(self) -> LateChanges:
        self._outer = getattr(_threads, "changes", None)
        _threads.changes = self
        return self

    def __exit__(self, *error: object) -> None:
        _threads.changes = self._outer

    def make(self) -> None:
        """Makes the changes, in the order in which they were asked for."""
        while self._changes:
            values, write = self._changes.pop(next(iter(self._changes)))
            write(values)


class StatefulOperations:
    """What the code of a `with` block does to state, for others to wait for.

    Metrics return what updates them under Keras 2 alone.
    """

    def __enter__(self) -> StatefulOperations:
        self._graph = _current_graph()
        self._begin = len(self._operations())
        return self

    def __exit__(self, *error: object) -> None:
        self._end = len(self._operations())

    def made(self) -> list[tf.Operation]:
        """The operations; none in eager code, which has waited."""
        made = self._operations()[self._begin : self._end]
        return [one for one in made if one.op_def.is_stateful]

    def _operations(self) -> list[tf.Operation]:
        return [] if self._graph is None else self._graph.get_operations()


def change_late(layer: object, values: Any, write: Callable[[Any], object]) -> None:
    """Changes the state of a layer: at once, or late where a block holds it back.

    Args:
      layer: The layer, of which no other change is awaited; see `change_now`.
      values: What `awaited` tells meanwhile.
      write: Function of `values` that writes the variables.
    """
    changes = _changes()
    if changes is None:
        write(values)
    else:
        changes._changes[id(layer)] = values, write


def awaited(layer: object) -> Any:
    """The values that a layer is about to take, or None."""
    changes = _changes()
    return None if changes is None else changes._changes.get(id(layer), [None])[0]


def change_now(layer: object) -> None:
    """Makes what is awaited of a layer: another call is to go on from there."""
    changes = _changes()
    if changes is not None and id(layer) in changes._changes:
        values, write = changes._changes.pop(id(layer))
        write(values)


def _changes() -> LateChanges | None:
    """The block around this code, if it can hold back a change that is made here."""
    changes = getattr(_threads, "changes", None)
    if changes is None or changes._graph is not _current_graph() or compiled_by_xla():
        return None
    return changes


def _current_graph() -> tf.Graph | None:
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
