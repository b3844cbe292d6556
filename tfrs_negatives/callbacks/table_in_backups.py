"""A mined table among what a model saves while `fit` runs."""

from __future__ import annotations

import types
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import IS_KERAS_3, Untracked, keras
from tfrs_negatives.samplers import Mined
from tfrs_negatives.types import KerasModel

_VARIABLES = "table", "range_min", "range_max", "refreshed_at", "num_padded"


class TableInBackups:
    """Makes a sampler's table a part of what a model saves, and restores, in `fit`.

    Keras's `BackupAndRestore` keeps a model and where training was, and would resume
    with the table that the sampler was made with. The model's weights, layers and
    configuration stay as they are.

    Args:
      sampler: A `samplers.Mined`.
    """

    def __init__(self, sampler: Mined) -> None:
        variables = {name: getattr(sampler, name) for name in _VARIABLES}
        # Keras 3 saves what attributes hold, if they can save; Keras 2 what it tracks,
        # and a checkpoint is nothing that it takes for weights.
        self._kept: Any = (
            _Saved(variables) if IS_KERAS_3 else tf.train.Checkpoint(**variables)
        )
        self._model: KerasModel | None = None

    def attach(self, model: KerasModel) -> None:
        """Before any callback's `on_train_begin`, where models are restored."""
        self.detach()
        # Of several callbacks, in their order. One whose `fit` was cut off is in use
        # no more.
        number = 0
        while not _held(model, number).has_begun:
            number += 1
        self._model, self._name = model, _attribute(number)
        self._kept.has_begun = False
        # Keras 3 would let nothing be added to a model that is built.
        set_attribute: Any = object.__setattr__ if IS_KERAS_3 else setattr
        set_attribute(model, self._name, self._kept)

    def begin(self) -> None:
        """All callbacks of this `fit` are attached."""
        self._kept.has_begun = True

    def detach(self) -> None:
        """When `fit` has ended."""
        if self._model is None:
            return
        if getattr(self._model, self._name, None) is self._kept:
            delete: Any = object.__delattr__ if IS_KERAS_3 else delattr
            delete(self._model, self._name)
        self._model = None


def _attribute(number: int) -> str:
    return f"_mined_negatives_{number}"


def _held(model: KerasModel, number: int) -> Any:
    return getattr(model, _attribute(number), _FREE)


class _Saved(keras.layers.Layer):
    """Variables that Keras 3 saves with the model that has this as an attribute."""

    def __init__(self, variables: Mapping[str, tf.Variable]) -> None:
        super().__init__(name="mined_negatives")
        self._values = Untracked(variables)
        self.built = True
        self.has_begun = True

    def save_own_variables(self, store: Any) -> None:
        for name, variable in self._values.value.items():
            store[name] = variable.numpy()

    def load_own_variables(self, store: Any) -> None:
        saved = {name: np.asarray(store[name]) for name in store.keys()}
        if not saved:
            warnings.warn(
                "What the model is restored from holds no mined table, which stays as "
                "it is. Tables are saved by a `fit` whose callbacks have "
                "`RefreshNegatives`.",
                stacklevel=2,
            )
            return
        for name, variable in self._values.value.items():
            value = saved[name]
            if not variable.shape.is_compatible_with(value.shape):
                raise ValueError(
                    f"The mined table is of {variable.shape[0]} rows, and the one "
                    f"that the model is restored from of {value.shape[0]}. Make the "
                    "sampler with the `row_ids` that it had, or start again."
                )
            variable.assign(value)


_FREE = types.SimpleNamespace(has_begun=True)
