"""What metrics of negatives cost."""
