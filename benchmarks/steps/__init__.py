"""The whole training step of two large embedding tables, part by part."""
