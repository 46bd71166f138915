"""Codes: what a number of bits is measured against."""
