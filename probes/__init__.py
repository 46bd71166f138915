"""Probes: how much of the labels a simple model reads from frozen features of every layer.

A probe is a module with

- `MEASURES`: its headline numbers (`probes.measures.Measure`), for tables and TensorBoard;
- `evaluate(features, config, seed) -> (results, arrays)`: `results` holds plain numbers for
  `run.json`, `arrays` per-example predictions for `arrays.npz`. It chooses on validation (or by
  cross-validation inside a labelled subset) and reads the test split once. Where the features lack
  what it needs both are empty.
"""

from probes import (
  attentive,
  control_task,
  finetune,
  geometry,
  knn,
  linear,
  mlp,
  pac,
  pooling,
  prequential,
  ridge,
)

PROBES = {
  'linear': linear,
  'ridge': ridge,
  'knn': knn,
  'mlp': mlp,
  'prequential': prequential,
  'pooling': pooling,
  'attentive': attentive,
  'control_task': control_task,
  'geometry': geometry,
  'pac': pac,
  'finetune': finetune,
}
