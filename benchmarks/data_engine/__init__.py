"""What the steps of `tfrs-negatives pipeline` cost."""
