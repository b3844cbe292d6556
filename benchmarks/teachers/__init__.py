"""Teachers: what fitting them costs."""
