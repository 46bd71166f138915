"""What a comparison compares its runs with, beside untrained networks: WORKDIR/controls.json.

The raw input has no pretraining seed, but subsets of few labels follow one. So it is probed with
those of every seed of the comparison: what it gets right with them stands in
WORKDIR/controls/seedN/arrays.npz, as a run's does in its own directory, and verdicts pair the two.
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import io
import os
import sys
from typing import Any

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

  They are of the data of the first run. What the file has of the same stays, seeds of earlier runs
  too; all is made again where something of it failed, and replaced when all is there.
  """
  config, path = planned[0].config, os.path.join(workdir, 'controls.json')
  built = experiment.build(config, data_dir, planned[0].workdir)
  asked = configs.plain(config)
  key = {name: asked[name] for name in ('data', 'probe_data', 'probe', 'evaluation')}
  key |= {'width': built.model.width}
  key |= {'data_hash': [built.dataset.digest, built.probe_dataset.digest]}
  earlier, known = _earlier(path, key)
  seeds = [*known, *sorted({run.config.training.seed for run in planned} - {*known})]
  if earlier and seeds == known:
    return
  key |= {'label_subsets_of_seeds': seeds}
  failed: dict[str, str] = {}
  raw = None
  if built.probed:
    raw = assessment.surviving(failed, 'raw', built.raw_features)
  if raw is not None:
    raw = dataclasses.replace(raw, pretraining_seed=seeds[0])
  controls, arrays = (earlier, {}) if earlier else _made(built, raw, failed)
  by_seed = controls.get('raw_by_seed', {})
  if raw is not None and 'linear' in controls['raw']:
    for seed in seeds:
      if str(seed) in by_seed:
        continue

      def few(seed: int = seed) -> tuple[dict, dict[str, np.ndarray]]:
        of_seed = dataclasses.replace(raw, pretraining_seed=seed)
        return linear.few(of_seed, config.probe.linear, config.evaluation.seed)

      name = f'raw, linear probe with the labels of seed {seed}'
      if (found := assessment.surviving(failed, name, few)) is not None:
        by_seed[str(seed)], arrays[seed] = found
    controls['raw_by_seed'] = by_seed
    controls['raw']['linear'] |= pooled(by_seed)
  for name, why in failed.items():
    print(f'control {name} FAILED: {why}', file=sys.stderr)
  if not earlier:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(path)  # It is of the arrays that are replaced here.
  for seed, found in arrays.items():
    kept = {f'linear/{n}/predictions': found[f'{n}/predictions'] for n in by_seed[str(seed)]}
    directory = os.path.join(workdir, 'controls', f'seed{seed}')
    os.makedirs(directory, exist_ok=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, labels=np.asarray(raw.labels_test), **kept)
    write_atomically(os.path.join(directory, 'arrays.npz'), buffer.getvalue())
  write_atomically(path, whole.dumps(controls | {'of': key, 'failed': failed}))


def _earlier(path: str, key: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
  """What controls.json has if it is of `key`, {} if some of it failed, and the seeds it is of."""
  found = reading.read_json(path)
  of = found.get('of')
  if not isinstance(of, dict):
    return {}, []
  known = of.get('label_subsets_of_seeds', [])
  if of != {**key, 'label_subsets_of_seeds': known}:
    return {}, []
  return {} if found.get('failed') else found, known


def _made(
  built: experiment.Experiment, raw: features.Features | None, failed: dict[str, str]
) -> tuple[dict[str, Any], dict[int, dict[str, np.ndarray]]]:
  """All controls but the raw input with the labels of later seeds; arrays of the first, by seed.

  What fails is left out, and `failed` says why.
  """
  config, dataset, width = built.config, built.dataset, built.model.width
  wide = {
    'raw': lambda: raw,
    'pca': lambda: baselines.pca(raw, width),
    'random_relu': lambda: baselines.random_relu(raw, width, config.evaluation.seed),
  }
  controls: dict[str, Any] = {}
  arrays: dict[int, dict[str, np.ndarray]] = {}
  for name, make in wide.items() if raw is not None else ():
    found = assessment.surviving(failed, name, make)
    if found is None:
      continue
    controls[name], lost, own = assessment.fit_probes(lambda found=found: found, config)
    failed |= {f'{name}, {probe} probe': why for probe, why in lost.items()}
    if name == 'raw' and 'linear' in controls[name]:
      first = {n: cell for n, cell in controls[name]['linear'].items() if n != 'all'}
      controls['raw_by_seed'] = {str(raw.pretraining_seed): first}
      arrays[raw.pretraining_seed] = {k.removeprefix('linear/'): v for k, v in own.items()}
  controls |= {
    'majority': assessment.majority(built),
    'histogram_bits_per_dim': measured.histogram_bits(dataset),
    'uniform_bits_per_dim': histogram.uniform_bits(dataset.vocabulary),
  }
  if dataset.shape:
    controls['real_samples'] = dataset.test.tokens_NxT[:_PICTURES].tolist()
  latents = built.probe_dataset.latents
  if raw is not None and latents and 'train' in latents:
    by_split = {'train': raw.train, 'validation': raw.validation}
    found = assessment.surviving(
      failed, 'raw, latents', lambda: levels.fit_latents(by_split, built.probe_dataset, config)
    )
    if found is not None:
      controls['raw_latents'] = {name: layers[0] for name, layers in found['linear'].items()}
  return controls, arrays


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
