"""Request-sorted data: quality, the loss, steps and pipelines."""
