"""Binaries that start, probe, compare and report runs: flags, their checks and one call."""
