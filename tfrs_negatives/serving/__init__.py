"""Serving an export over TensorFlow Serving's protocols, without Keras.

Needs the extra `serve`; and `scann`, where the export holds a ScaNN index.
"""

from tfrs_negatives.serving.rest import rest_app
from tfrs_negatives.serving.server import Server
from tfrs_negatives.serving.server_limits import Limits
from tfrs_negatives.serving.service import Service

__all__ = ["Limits", "Server", "Service", "rest_app"]
