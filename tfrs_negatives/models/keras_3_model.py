"""What `tfrs.Model` is, for Keras 3, where TensorFlow Recommenders does not run."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

import tensorflow as tf

from tfrs_negatives import distribute
from tfrs_negatives._keras import keras
from tfrs_negatives.types import KerasMetric, PathLike


class Keras3Model(keras.Model):
    """Trains on the scalar that `compute_loss(features, training)` returns.

    `models.Model` has what it shares with Keras 2.
    """

    def compute_loss(self, features: Any, training: bool = False) -> tf.Tensor:
        """Returns the scalar loss of one batch.

        Args:
          features: What the dataset yields.
          training: Whether this is a training step.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must implement `compute_loss(features, "
            "training)` and return a scalar loss."
        )

    def train_step(self, features: Any) -> dict[str, Any]:
        with tf.GradientTape() as tape:
            loss = self.compute_loss(features, training=True)
            regularization_loss = tf.add_n([tf.constant(0.0), *self.losses])
            # Replicas' gradients are added up: each takes its part of what all have.
            total_loss = loss + regularization_loss / distribute.num_replicas()
            scaled_loss = self.optimizer.scale_loss(total_loss)
        self._warn_of_untracked(tape)
        variables = self.trainable_variables
        gradients = tape.gradient(scaled_loss, variables)
        self.optimizer.apply(gradients, variables)
        # Keras averages logs over replicas, so that each logs what is everyone's.
        loss = distribute.total(loss)
        return self._logs(
            {
                "loss": loss,
                "regularization_loss": regularization_loss,
                "total_loss": loss + regularization_loss,
            }
        )

    def export(
        self,
        filepath: PathLike,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """As in Keras, for models with a `call` of the features they are trained on.

        Keras knows the inputs of models that it called itself, and takes them for
        numbers. It did not call this one, whose ids may be strings.
        """
        specs, _ = self._seen.value
        if input_signature is None and specs is not None:
            input_signature = [specs]
        super().export(filepath, format, verbose, input_signature, **kwargs)

    def _logged_metrics(self) -> list[KerasMetric]:
        return [metric for metric in self.metrics if metric is not self._loss_tracker]

    def _logs(self, losses: dict[str, tf.Tensor]) -> dict[str, Any]:
        """The metrics, and losses that are everyone's."""
        metrics = self._logged_metrics()
        logs = {**{metric.name: metric.result() for metric in metrics}, **losses}
        if distribute.has_several_workers():
            # Keras averages them over replicas along an axis.
            logs = {name: tf.reshape(value, [1]) for name, value in logs.items()}
        return logs

    def _warn_of_untracked(self, tape: tf.GradientTape) -> None:
        """Keras 3 neither trains nor saves what is a `tf.Variable` by itself."""
        if distribute.num_replicas() > 1:
            return  # Which have parts of variables.
        tracked = {id(variable.value) for variable in self.variables}
        names = [
            variable.name
            for variable in tape.watched_variables()
            if id(variable) not in tracked
        ]
        if names:
            warnings.warn(
                f"The loss depends on variables that {type(self).__name__} does not "
                f"hold as Keras 3 wants it, which are not trained or saved: {names}. "
                "Make a `tf.Variable` a `keras.Variable`, and layers attributes of the "
                "model; or pass `trainable=False`.",
                stacklevel=2,
            )

    def _symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """Does nothing: `compute_loss` decides what is called, and with what.

        Keras would call the model on symbolic inputs; a two-tower model has no single
        call, and string features cannot be symbolic.
        """

    def _maybe_symbolic_build(
        self, iterator: Any = None, data_batch: Any = None
    ) -> None:
        """Builds before callbacks begin, of which some ask for it.

        Where that fails, the first step does too, and says why.
        """
        if self.built:
            return
        if iterator is not None:
            data_batch = iterator.data_adapter.get_tf_dataset().element_spec
        with contextlib.suppress(Exception):
            self._build_on(data_batch)
