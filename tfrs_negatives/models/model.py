"""Models that define their loss in `compute_loss(features, training)`."""

import tensorflow as tf

from tfrs_negatives import distribute
from tfrs_negatives._keras import IS_KERAS_3, keras

if IS_KERAS_3:

    class Model(keras.Model):
        """Trains with `model.fit` on a loss that the user writes.

        The same as `tfrs.Model`, which it is under Keras 2; here for Keras 3,
        where TensorFlow Recommenders does not run. Implement
        `compute_loss(features, training)`, returning a scalar; towers and tasks
        are attributes. Logs "loss", "regularization_loss", "total_loss" and the
        metrics.

        Raises:
          NotImplementedError: `compute_loss` was not implemented.
        """

        def compute_loss(self, features, training=False):
            """Returns the scalar loss of one batch.

            Args:
              features: What the dataset yields.
              training: Whether this is a training step.
            """
            raise NotImplementedError(
                f"{type(self).__name__} must implement `compute_loss(features, "
                "training)` and return a scalar loss."
            )

        def train_step(self, features):
            with tf.GradientTape() as tape:
                logs, total_loss = self._compute_losses(features, training=True)
                scaled_loss = self.optimizer.scale_loss(total_loss)
            variables = self.trainable_variables
            gradients = tape.gradient(scaled_loss, variables)
            self.optimizer.apply(gradients, variables)
            return self._logs(logs)

        def test_step(self, features):
            logs, _ = self._compute_losses(features, training=False)
            return self._logs(logs)

        def _compute_losses(self, features, training):
            loss = self.compute_loss(features, training=training)
            regularization_loss = tf.add_n([tf.constant(0.0), *self.losses])
            # Replicas' gradients are added up: each takes its part of what all have.
            total_loss = loss + regularization_loss / distribute.num_replicas()
            # Keras averages logs over replicas, so that each logs what is everyone's.
            loss = distribute.total(loss)
            logs = {
                "loss": loss,
                "regularization_loss": regularization_loss,
                "total_loss": loss + regularization_loss,
            }
            return logs, total_loss

        def _logs(self, losses):
            metrics = {
                metric.name: metric.result()
                for metric in self.metrics
                if metric is not self._loss_tracker
            }
            logs = {**metrics, **losses}
            if distribute.has_several_workers():
                # Keras averages them over replicas along an axis.
                logs = {name: tf.reshape(value, [1]) for name, value in logs.items()}
            return logs

        def _symbolic_build(self, *args, **kwargs):
            """Does nothing: `compute_loss` decides what is called, and with what.

            Keras would call the model on symbolic inputs; a two-tower model has
            no single call, and string features cannot be symbolic.
            """

        def _maybe_symbolic_build(self, *args, **kwargs):
            """Does nothing either: it would add up the replicas' first batches."""

else:
    from tensorflow_recommenders.models import Model  # noqa: F401
