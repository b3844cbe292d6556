"""What all benchmarks share: costs, turns, processes, rows of CSVs, plots."""
