"""What the tables train with this package."""
