"""Several replicas: recall, time and bytes moved."""
