"""Benchmarks: throughput beside the plain way of doing it, in one run on one machine."""
