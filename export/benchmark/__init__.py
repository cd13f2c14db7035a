"""Latency and throughput of models, graphs and engines."""
