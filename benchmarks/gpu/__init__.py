"""The loss on a GPU that has no TensorFlow: exported here, measured there."""
