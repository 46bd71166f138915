"""What a comparison compares its runs with, beside untrained networks: WORKDIR/controls.json.

The raw input has no pretraining seed, but subsets of few labels follow one. So it is probed with
those of every seed of the comparison: what it gets right with them stands in
WORKDIR/controls/seedN/arrays.npz, as a run's does in its own directory, and verdicts pair the two.
"""

from collections.abc import Sequence
import contextlib
import dataclasses
import io
import os
import sys
from typing import Any

import ml_collections
import numpy as np

from codes import histogram
from probes import baselines, features, linear
from reports import reading
from runs import assessment, configs, experiment, levels, measured, whole
from runs.plan import PlannedRun
from training.metrics import write_atomically

# Real examples shown beside samples.
_PICTURES = 32


def write(planned: Sequence[PlannedRun], workdir: str, data_dir: str) -> None:
  """Probes of the raw input and the codes that know nothing, to WORKDIR/controls.json.

  They are of the data of the first run. Nothing is done where the file is of the same already.
  """
  config, path = planned[0].config, os.path.join(workdir, 'controls.json')
  built = experiment.build(config, data_dir, planned[0].workdir)
  dataset, probed, width = built.dataset, built.probe_dataset, built.model.width
  seeds = sorted({run.config.training.seed for run in planned})
  asked = configs.plain(config)
  key = {name: asked[name] for name in ('data', 'probe_data', 'probe', 'evaluation')}
  key |= {'width': width, 'data_hash': [dataset.digest, probed.digest]}
  key |= {'label_subsets_of_seeds': seeds}
  if reading.read_json(path).get('of') == key:
    return
  wide = {}
  if built.probed:
    raw = dataclasses.replace(built.raw_features(), pretraining_seed=seeds[0])
    wide = {
      'raw': raw,
      'pca': baselines.pca(raw, width),
      'random_relu': baselines.random_relu(raw, width, config.evaluation.seed),
    }
  controls: dict[str, Any] = {'of': key}
  for name, found in wide.items():
    controls[name], arrays = _probed(name, found, config)
    if name == 'raw' and 'linear' in controls[name]:
      controls['raw_by_seed'] = _by_seed(
        found, seeds, controls[name]['linear'], arrays, config, workdir
      )
      controls[name]['linear'] |= pooled(controls['raw_by_seed'])
  controls |= {
    'majority': assessment.majority(built),
    'histogram_bits_per_dim': measured.histogram_bits(dataset),
    'uniform_bits_per_dim': histogram.uniform_bits(dataset.vocabulary),
  }
  if dataset.shape:
    controls['real_samples'] = dataset.test.tokens_NxT[:_PICTURES].tolist()
  if probed.latents and 'train' in probed.latents:
    by_split = {'train': raw.train, 'validation': raw.validation}
    found = levels.fit_latents(by_split, probed, config)['linear']
    controls['raw_latents'] = {name: by_layer[0] for name, by_layer in found.items()}
  write_atomically(path, whole.dumps(controls))


def _probed(
  name: str, found: features.Features, config: ml_collections.ConfigDict
) -> tuple[dict, dict[str, np.ndarray]]:
  """Results by probe of a control, and arrays; a probe that fails is named on stderr."""
  results, failed, arrays = assessment.fit_probes(lambda: found, config)
  for probe, why in failed.items():
    print(f'control {name}: probe {probe} FAILED: {why}', file=sys.stderr)
  return results, arrays


def _by_seed(
  raw: features.Features,
  seeds: Sequence[int],
  first: dict,
  arrays: dict[str, np.ndarray],
  config: ml_collections.ConfigDict,
  workdir: str,
) -> dict[str, dict]:
  """Seed -> number of labels -> the linear probe's cell; predictions go to files of their own.

  Args:
    raw: the input; its `pretraining_seed` is the first of the seeds.
    seeds: whose subsets of the labels it is probed with.
    first, arrays: what the linear probe found with those of the first.
    config: of the first run.
    workdir: of the comparison.
  """
  own = {key.removeprefix('linear/'): value for key, value in arrays.items()}
  made = {seeds[0]: ({n: cell for n, cell in first.items() if n != 'all'}, own)}
  for seed in seeds[1:]:
    of_seed = dataclasses.replace(raw, pretraining_seed=seed)
    made[seed] = linear.few(of_seed, config.probe.linear, config.evaluation.seed)
  with contextlib.suppress(FileNotFoundError):
    os.unlink(os.path.join(workdir, 'controls.json'))  # Of the arrays that are replaced here.
  for seed, (cells, found) in made.items():
    directory = os.path.join(workdir, 'controls', f'seed{seed}')
    os.makedirs(directory, exist_ok=True)
    kept = {f'linear/{n}/predictions': found[f'{n}/predictions'] for n in cells}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, labels=np.asarray(raw.labels_test), **kept)
    write_atomically(os.path.join(directory, 'arrays.npz'), buffer.getvalue())
  return {str(seed): cells for seed, (cells, _) in made.items()}


def pooled(by_seed: dict[str, dict]) -> dict[str, dict]:
  """Number of labels -> one cell of the draws of all seeds, in the form of one seed's."""
  parts: dict[str, list[dict]] = {}
  for cells in by_seed.values():
    for count, cell in cells.items():
      parts.setdefault(count, []).append(cell)
  made = {}
  for count, cells in parts.items():
    lists = {
      name: [value for cell in cells for value in cell[name]]
      for name in ('layer', 'l2', 'draws', 'subsets')
    }
    draws, curves = lists['draws'], [cell['by_layer_cv'] for cell in cells]
    made[count] = lists | {
      'accuracy': float(np.mean(draws)),
      'stderr': float(np.std(draws, ddof=1) / np.sqrt(len(draws))) if len(draws) > 1 else None,
      'cross_entropy': float(np.mean([cell['cross_entropy'] for cell in cells])),
      'by_layer_cv': None if None in curves else np.mean(curves, 0).tolist(),
      'certificate': max(cell['certificate'] for cell in cells),
      'disjoint': cells[0]['disjoint'],
    }
  return made
