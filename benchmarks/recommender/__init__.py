"""What `tfrs-negatives train` gives by default, on public tables, against the rest."""
