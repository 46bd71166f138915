"""Upper bounds on K(X) of more and more examples, programs included, by network and without."""

from collections.abc import Sequence
import os
import subprocess
import sys
import tempfile
from typing import Any

import numpy as np

from codes import baselines, compressors, container, counting, description, program, training_time
from codes.description import Description
from data import hierarchy
from runs import compressing, configs, experiment, learning
from runs.assembled import Experiment
from runs.errors import UserError

# As they stand, and all examples' first tokens first.
_PACKINGS = ('example by example, bytes', 'pixel-major, bytes')


def streamed(built: Experiment) -> np.ndarray:
  """The charged tokens of all examples of a run's training, in their order, (N, T).

  Raises:
    UserError: examples are not drawn afresh from a hierarchy.
  """
  dataset, training = built.dataset, built.config.training
  if dataset.epoch is not None or not isinstance(dataset.truth, hierarchy.Grammar):
    raise UserError('only a hierarchy that is drawn afresh is drawn again')
  count = training.steps * training.batch_size
  return hierarchy.sample(dataset.truth, training.seed, 0, count).tokens_NxT


def by_network(
  curve: Sequence[dict], built: Experiment, examples: int, program_bits: int
) -> Description | None:
  """Of the first examples, at least so many updates' worth, by the network that trained on them.

  Every batch is coded before the network learns from it, so that nothing but the code and the
  program is sent: the arithmetic of a file, not one. None where the log does not say it.

  Args:
    curve: points of metrics.jsonl.
    built: the run, on a source that is drawn afresh.
    examples: N, a multiple of the batch and of the log's windows.
    program_bits: of `program.NETWORKS`.
  """
  training = built.config.training
  steps = examples // training.batch_size
  found = training_time.first_epoch(
    [point for point in curve if point['step'] <= steps],
    batch_size=training.batch_size,
    epoch=None,
    log_every=training.log_every,
    dims=built.dataset.dims,
  )
  if found['examples'] != examples:
    return None
  bits = round(found['bits_per_dim'] * examples * built.dataset.dims)
  return Description('network', bits, program_bits, (), program.NETWORKS)


def without(tokens_NxT: np.ndarray, symbols: int) -> list[Description]:
  """By raw digits, by every compressor that is a call of a library, and by the counting code.

  Args:
    tokens_NxT: X.
    symbols: V, at most 256.
  """
  found, (_, dims) = [description.raw(tokens_NxT.size, symbols)], tokens_NxT.shape
  for packing, rows in zip(_PACKINGS, (tokens_NxT, tokens_NxT.T), strict=True):
    data = np.ascontiguousarray(rows, np.uint8).tobytes()
    for compressor in compressors.COMPRESSORS.values():
      bits = 8 * len(compressor.compress(data))
      found.append(description.library(compressor.name, packing, bits, dims, symbols))
  layout = counting.Layout(symbols, dims, None, False)
  fields = {'kind': container.ARRAY, 'dtype': '<i4', 'shape': (dims,)}
  file = baselines.counted_file(layout, tokens_NxT.reshape(-1), fields)
  found.append(description.ours('counting', 8 * len(file), program.COUNTING))
  return [one for one in found if one is not None]


def decoded(
  path: str, overrides: Sequence[str], tokens_NxT: np.ndarray, updates: int, data_dir: str
) -> dict[str, Any]:
  """Writes a file by a network that learns, and runs the program that is counted on it.

  Args:
    path: config file, of the network.
    overrides: of it.
    tokens_NxT: what is coded.
    updates: of the network after every batch of 64.
    data_dir: prepared data sets.

  Returns:
    bits of the file, and whether a fresh process printed the same tokens.
  """
  how = learning.Learning(counts=False, updates=(updates,))
  coder = compressing.Coder(
    None, False, f'{path}:autoregressive', tuple(overrides), data_dir, None, how
  )
  root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  with tempfile.TemporaryDirectory() as where:
    source, coded, again = (os.path.join(where, name) for name in ('x.npy', 'x.bp', 'y.npy'))
    np.save(source, tokens_NxT.astype(np.uint8))
    compressing.encode(coder, source, coded)
    environment = {**os.environ, 'PYTHONPATH': root}
    command = [sys.executable, '-c', program.NETWORKS, coded, again]
    subprocess.run(command, check=True, env=environment)
    same = np.array_equal(np.load(again), tokens_NxT)
    return {'bits': 8 * os.path.getsize(coded), 'same': bool(same)}


def experiment_of(path: str, overrides: Sequence[str], data_dir: str) -> Experiment:
  """What a config file describes, with overrides."""
  return experiment.build(configs.load(path, 'autoregressive', overrides), data_dir)
