"""`tfrs.Model`, for Keras 2."""

from tensorflow_recommenders.models import Model

from tfrs_negatives import distribute


class Keras2Model(Model):
    """Trains on the scalar that `compute_loss(features, training)` returns."""

    def _logged_metrics(self):
        return self.metrics

    def _logs(self, losses):
        """The metrics, and losses that are everyone's."""
        logs = {metric.name: metric.result() for metric in self._logged_metrics()}
        # Keras adds up what replicas log, but for metrics, which they share.
        replicas = distribute.num_replicas()
        return {**logs, **{name: loss / replicas for name, loss in losses.items()}}
