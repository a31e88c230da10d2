"""Measurements side by side with other libraries: `python -m benchmarks.decode` and so on."""
