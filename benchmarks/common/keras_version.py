"""Which Keras is in use; TF_USE_LEGACY_KERAS=0 chooses Keras 3."""

import tensorflow as tf

KERAS = 2 if tf.keras.Model.__module__.startswith("tf_keras") else 3
