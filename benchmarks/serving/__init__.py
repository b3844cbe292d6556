"""Latency and throughput of a served export."""
