"""Probes: how much of the labels a simple model reads from frozen features of every layer.

A probe is a module with `evaluate(features, config, seed) -> (results, arrays)`: `results` holds
plain numbers for `run.json`, `arrays` per-example predictions for `arrays.npz`. It chooses on
validation (or by cross-validation inside a labelled subset) and reads the test split once. Where
the features lack what it needs both are empty. `suite.PROBES` lists them, `measures.MEASURES` their
headline numbers. What was asked for and could not be measured stands in its results under
`left_out`, with the reason.
"""
