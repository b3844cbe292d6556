"""Recall on public data against other packages: searches, runs, tables, plots."""
