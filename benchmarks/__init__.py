"""Side-by-side measurements: one run, ratios."""
