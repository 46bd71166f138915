"""Binaries that start, probe, compare and report runs, and readers of what they leave."""
