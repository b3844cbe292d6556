"""Whether input pipelines with negatives keep up with training."""
