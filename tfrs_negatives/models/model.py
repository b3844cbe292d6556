"""Models that define their loss in `compute_loss(features, training)`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from tfrs_negatives._keras import IS_KERAS_3, Task, Untracked
from tfrs_negatives._tensorboard import RecordingSteps
from tfrs_negatives.losses.reductions import of_keras_loss
from tfrs_negatives.models import input_specs, log_names
from tfrs_negatives.models.row_means import RowMeans
from tfrs_negatives.tasks.noted_losses import NotedLosses
from tfrs_negatives.tasks.retrieval import Retrieval
from tfrs_negatives.types import Config, KerasLayer, PathLike

if IS_KERAS_3:
    from tfrs_negatives.models.keras_3_model import Keras3Model as _Base
else:
    from tfrs_negatives.models.keras_2_model import Keras2Model as _Base

_NUM_WEIGHTS = "num_weights"
_HOW_TO_BUILD = (
    "Run it on a batch first, such as by `model.evaluate(batches.take(1))` after "
    "`compile`, then call `model.load_weights` on the file."
)


class Model(_Base):
    """Trains with `model.fit` on a loss that the user writes.

    A `tfrs.Model` under Keras 2, and its equal under Keras 3, where TensorFlow
    Recommenders does not run. Implement `compute_loss(features, training)`, returning a
    scalar; towers and tasks are attributes. Training is that of `tfrs.Model`, which
    logs "loss", "regularization_loss", "total_loss" of the last batch, and the metrics.
    It differs in two ways:

    * `evaluate` and validation log the mean of each loss over all rows, not the last
      batch's value. What a `tasks.Retrieval` adds is averaged over its rows by their
      weights; what else `compute_loss` adds is taken for a mean over the batch.
    * After a step the model counts as built, and Keras saves and restores it by any of
      its means, weights or whole.

    Raises:
      NotImplementedError: `compute_loss` was not implemented.

    Example:
      >>> class TwoTower(tn.models.Model):
      ...     def __init__(self):
      ...         super().__init__()
      ...         self.user_tower = tf.keras.layers.Embedding(10, 8)
      ...         self.item_tower = tf.keras.layers.Embedding(20, 8)
      ...         self.task = tn.tasks.Retrieval()
      ...
      ...     def compute_loss(self, features, training=False):
      ...         users = self.user_tower(features["user"])
      ...         return self.task(users, self.item_tower(features["item"]))
      >>> table = {"user": [1, 2, 3, 4], "item": [11, 12, 13, 14]}
      >>> rows = tf.data.Dataset.from_tensor_slices(table).batch(4)
      >>> model = TwoTower()
      >>> model.compile("adam")
      >>> history = model.fit(rows, verbose=0)
      >>> "loss" in history.history
      True
    """

    # What Keras calls a step; see `make_train_function`.
    train_function: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._row_means = Untracked(RowMeans())
        # Specs of the features, and whether it was training that had them.
        self._seen = Untracked((None, False))

    @property
    def built(self) -> bool:
        """Whether all variables were made: a step was run, or all layers are built."""
        if self._is_built:
            return True
        layers = list(self._flatten_layers(include_self=False))
        return bool(layers) and all(layer.built for layer in layers)

    @built.setter
    def built(self, value: bool) -> None:
        self._is_built = value

    def train_step(self, features: Any) -> dict[str, Any]:
        features = _alone(features)
        logs = super().train_step(features)
        self._note_step(features, training=True)
        return logs

    def test_step(self, features: Any) -> dict[str, Any]:
        features = _alone(features)
        with NotedLosses() as noted:
            loss = self.compute_loss(features, training=False)
        self._note_step(features, training=False)
        regularization_loss = tf.add_n(
            [tf.constant(0.0), *(tf.reduce_sum(loss) for loss in self.losses)]
        )
        num_rows = _num_rows(features) if noted.num_rows is None else noted.num_rows
        rest_is_sum = noted.hides_a_sum or any(
            map(_sums_unseen, self._flatten_layers())
        )
        loss, regularization_loss = self._row_means.value.update(
            loss, regularization_loss, noted, num_rows, rest_is_sum
        )
        return self._logs(
            {
                "loss": loss,
                "regularization_loss": regularization_loss,
                "total_loss": loss + regularization_loss,
            }
        )

    def make_train_function(self, force: bool = False) -> Callable[[Any], Any]:
        log_names.check(self._logged_metrics())
        if force or not isinstance(self.train_function, RecordingSteps):
            self.train_function = RecordingSteps(self._new_train_function, self._step)
        self.train_function.begin()
        return self.train_function

    def make_test_function(self, force: bool = False) -> Callable[[Any], Any]:
        log_names.check(self._logged_metrics())
        return super().make_test_function(force)

    def _new_train_function(self) -> Callable[[Any], Any]:
        current: Any = self.train_function
        super().make_train_function(force=True)
        made = self.train_function
        self.train_function = current
        return made

    def _step(self) -> tf.Variable:
        iterations = self.optimizer.iterations
        return iterations.value if IS_KERAS_3 else iterations

    def reset_metrics(self) -> None:
        super().reset_metrics()
        self._row_means.value.reset()

    def get_build_config(self) -> Config | None:
        """What `build_from_config` needs: what the last step's features were like."""
        specs, training = self._seen.value
        if specs is None:
            return super().get_build_config()
        return {"features": input_specs.to_config(specs), "training": training}

    def build_from_config(self, config: Config) -> None:
        """Makes the variables of a model from what another was trained on.

        Raises:
          ValueError: `compute_loss` cannot run on such features here.
        """
        if "features" not in config:
            super().build_from_config(config)
            return
        specs = input_specs.from_config(config["features"])
        try:
            self._build_on(specs, config["training"])
        except Exception as error:
            raise ValueError(
                f"{type(self).__name__} was trained on features {specs}, and its "
                "`compute_loss` fails on such here, so that its weights cannot be "
                f"restored. {_HOW_TO_BUILD}"
            ) from error

    def _build_on(self, features: Any, training: bool = True) -> None:
        """Makes the variables without running anything; `features` may be specs."""
        specs = input_specs.specs_of(_alone(features))
        input_specs.trace(self, specs, training)
        self._note_step(specs, training)

    def load_weights(self, filepath: PathLike, *args: Any, **kwargs: Any) -> Any:
        """As in Keras, which restores layers that are built.

        Raises:
          ValueError: The model has no weights yet, or less than the file.
        """
        # TensorFlow's checkpoints wait until the variables are made.
        is_kept_by_keras = str(filepath).endswith((".h5", ".keras", ".json"))
        if is_kept_by_keras and not self.built:
            raise ValueError(
                f"{type(self).__name__} has no weights yet, its layers make them when "
                f"they are called. {_HOW_TO_BUILD}"
            )
        return super().load_weights(filepath, *args, **kwargs)

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        store[_NUM_WEIGHTS] = np.array(len(self.weights))

    def load_own_variables(self, store: Any) -> None:
        own = {name: store[name] for name in store.keys() if name != _NUM_WEIGHTS}
        if _NUM_WEIGHTS in store.keys():
            saved, here = int(np.asarray(store[_NUM_WEIGHTS])), len(self.weights)
            # Keras passes over layers that were never called.
            if here < saved:
                raise ValueError(
                    f"The file has {saved} weights, {type(self).__name__} {here}: "
                    f"layers that were never called have none. {_HOW_TO_BUILD}"
                )
        super().load_own_variables(own)

    def _note_step(self, features: Any, training: bool) -> None:
        """Remembers that all that `compute_loss` calls is built, and by what."""
        self.built = True
        specs = input_specs.specs_of(features)
        # An evaluation may lack what training needs.
        if specs is not None and training >= self._seen.value[1]:
            self._seen.value = specs, training


def _alone(features: Any) -> Any:
    """Features without the targets and weights that Keras 3 adds to a batch."""
    if isinstance(features, tuple) and len(features) == 3:
        values, targets, weights = features
        if targets is None and weights is None:
            return values
    return features


def _num_rows(features: Any) -> int | tf.Tensor:
    """Rows of a batch, by its first tensor, as in Keras."""
    for values in tf.nest.flatten(features):
        if isinstance(values, tf.RaggedTensor):
            return values.nrows()
        if isinstance(values, tf.SparseTensor):
            return values.dense_shape[0]
        if values is not None and values.shape.rank != 0:
            return tf.shape(values)[0]
    return 1


def _sums_unseen(layer: KerasLayer) -> bool:
    """Whether a layer is a task of TFRS's that returns a sum, which nobody notes."""
    if not isinstance(layer, Task) or isinstance(layer, Retrieval):
        return False
    return of_keras_loss(getattr(layer, "_loss", None)) == "sum"
