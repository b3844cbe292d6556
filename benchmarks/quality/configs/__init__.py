"""What each table of `docs/results.md` trains."""
