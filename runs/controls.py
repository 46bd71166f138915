"""What a comparison compares its runs with, beside untrained networks: WORKDIR/controls.json.

The raw input has no pretraining seed, but subsets of few labels follow one. So it is probed with
those of every seed of the comparison: what it gets right with them stands in
WORKDIR/controls/seedN/arrays.npz, as a run's does in its own directory, and verdicts pair the two.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import io
import os
import sys
from typing import Any

import ml_collections
import numpy as np

from codes import histogram
from probes import baselines, features, linear, suite
from probes.measures import at
from reports import reading
from runs import assessment, configs, experiment, levels, measured, sizes, whole
from runs.plan import PlannedRun
from training.metrics import write_atomically

# Real examples shown beside samples.
_PICTURES = 32


def write(planned: Sequence[PlannedRun], workdir: str, data_dir: str) -> None:
  """Probes of the raw input and the codes that know nothing, to WORKDIR/controls.json.

  They are of the data of the first run; PCA and random ReLU are as wide as the narrowest network so
  far. What the file has of the same stays, of the seeds of other calls too; what failed is tried
  again.
  """
  config, path = planned[0].config, os.path.join(workdir, 'controls.json')
  built = experiment.build(config, data_dir, planned[0].workdir)
  asked = configs.plain(config)
  key = {name: asked[name] for name in ('data', 'probe_data', 'probe', 'evaluation')}
  key |= {'width': min(sizes.shape(run.config.model)['width'] for run in planned)}
  key |= {'data_hash': [built.dataset.digest, built.probe_dataset.digest]}
  controls = _earlier(path, key)
  key['width'] = min(key['width'], at(controls, ('of', 'width')) or key['width'])
  known = controls.get('of', {}).get('label_subsets_of_seeds', [])
  seeds = [*known, *sorted({run.config.training.seed for run in planned} - {*known})]
  key |= {'label_subsets_of_seeds': seeds}
  if controls.get('of') == key and not controls['failed']:
    return
  new = not controls
  failed = dict(controls.get('failed', {}))  # What is not tried again here has failed still.
  arrays: dict[int, dict[str, np.ndarray]] = {}
  raw = _again(failed, 'raw', built.raw_features) if built.probed else None
  if raw is not None:
    raw = dataclasses.replace(raw, pretraining_seed=seeds[0])
    arrays = _add_wide(controls, raw, key['width'], config, failed)
    arrays |= _add_seeds(controls, raw, seeds, config, failed)
    _add_latents(controls, raw, built, failed)
  controls |= {
    'majority': assessment.majority(built),
    'histogram_bits_per_dim': measured.histogram_bits(built.dataset),
    'uniform_bits_per_dim': histogram.uniform_bits(built.dataset.vocabulary),
  }
  if built.dataset.shape:
    controls['real_samples'] = built.dataset.test.tokens_NxT[:_PICTURES].tolist()
  for name, why in failed.items():
    print(f'control {name} FAILED: {why}', file=sys.stderr)
  if new:
    with contextlib.suppress(FileNotFoundError):
      os.unlink(path)  # It is of the arrays that are replaced here.
  for seed, found in arrays.items():
    directory = _place(workdir, seed)
    os.makedirs(directory, exist_ok=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, labels=np.asarray(raw.labels_test), **found)
    write_atomically(os.path.join(directory, 'arrays.npz'), buffer.getvalue())
  write_atomically(path, whole.dumps(controls | {'of': key, 'failed': failed}))


def _earlier(path: str, key: Mapping[str, Any]) -> dict[str, Any]:
  """What controls.json has of the same data and probes; {} where it is of others.

  Of the evaluation they are of its seed alone, and what is wider than the network now is left out.
  """
  found = reading.read_json(path)
  of = found.get('of')
  same = ('data', 'probe_data', 'probe', 'data_hash')
  if not isinstance(of, dict) or any(of.get(name) != key[name] for name in same):
    return {}
  if at(of, ('evaluation', 'seed')) != key['evaluation']['seed']:
    return {}
  if not isinstance(of.get('width'), int) or of['width'] > key['width']:
    found = {name: value for name, value in found.items() if name not in ('pca', 'random_relu')}
  seeds, failed = of.get('label_subsets_of_seeds', []), found.get('failed') or {}
  for seed in list(found.get('raw_by_seed') or {}):
    if not reading.read_arrays(_place(os.path.dirname(path), seed), ('labels',)):
      del found['raw_by_seed'][seed]
      failed = {**failed, _few(seed): 'its predictions are gone'}
  return found | {'of': {**key, 'label_subsets_of_seeds': seeds} | {'width': of.get('width')},
                  'failed': failed}  # fmt: skip


def _place(workdir: str, seed: int | str) -> str:
  return os.path.join(workdir, 'controls', f'seed{seed}')


def _few(seed: int | str) -> str:
  """What the part of a seed is called where it failed."""
  return f'raw, linear probe with the labels of seed {seed}'


def _add_wide(
  controls: dict[str, Any],
  raw: features.Features,
  width: int,
  config: ml_collections.ConfigDict,
  failed: dict[str, str],
) -> dict[int, dict[str, np.ndarray]]:
  """Adds the raw input and its like where they are lacking or something of them failed.

  Returns:
    What the linear probe of the raw input gets right, by the seed that `raw` is of.
  """
  arrays: dict[int, dict[str, np.ndarray]] = {}
  wide = {
    'raw': lambda: raw,
    'pca': lambda: baselines.pca(raw, width),
    'random_relu': lambda: baselines.random_relu(raw, width, config.evaluation.seed),
  }
  for name, make in wide.items():
    before = [what for what in failed if _is_probe_of(name, what)]
    if name in controls and not before:
      continue
    found = _again(failed, name, make)
    if found is None:
      continue
    results, lost, own = assessment.fit_probes(lambda found=found: found, config)
    for what in before:
      failed.pop(what, None)
    failed |= {f'{name}, {probe} probe': why for probe, why in lost.items()}
    controls[name] = suite.merged(controls.get(name, {}), results)
    if name == 'raw' and 'linear' in results:
      cells = {n: cell for n, cell in results['linear'].items() if n != 'all'}
      controls.setdefault('raw_by_seed', {})[str(raw.pretraining_seed)] = cells
      arrays[raw.pretraining_seed] = {
        f'linear/{n}/predictions': own[f'linear/{n}/predictions'] for n in cells
      }
  return arrays


def _again(failed: dict[str, str], name: str, make: Callable[[], Any]) -> Any:
  """As `assessment.surviving`, where an earlier failure may be in `failed`."""
  failed.pop(name, None)
  return assessment.surviving(failed, name, make)


def _is_probe_of(name: str, what: str) -> bool:
  """Whether what failed is a control itself or one of its probes."""
  return what == name or what.startswith(f'{name}, ') and what.endswith(' probe')


def _add_seeds(
  controls: dict[str, Any],
  raw: features.Features,
  seeds: Sequence[int],
  config: ml_collections.ConfigDict,
  failed: dict[str, str],
) -> dict[int, dict[str, np.ndarray]]:
  """Adds the linear probe of the raw input with the labels of seeds that lack; predictions, by
  seed."""
  arrays: dict[int, dict[str, np.ndarray]] = {}
  if 'linear' not in controls.get('raw', {}):
    return arrays
  by_seed = controls.setdefault('raw_by_seed', {})
  for seed in seeds:
    if str(seed) in by_seed:
      continue

    def few(seed: int = seed) -> tuple[dict, dict[str, np.ndarray]]:
      of_seed = dataclasses.replace(raw, pretraining_seed=seed)
      return linear.few(of_seed, config.probe.linear, config.evaluation.seed)

    if (found := _again(failed, _few(seed), few)) is not None:
      by_seed[str(seed)], own = found
      arrays[seed] = {f'linear/{n}/predictions': own[f'{n}/predictions'] for n in found[0]}
  controls['raw']['linear'] |= pooled(by_seed)
  return arrays


def _add_latents(
  controls: dict[str, Any],
  raw: features.Features,
  built: experiment.Experiment,
  failed: dict[str, str],
) -> None:
  latents = built.probe_dataset.latents
  if 'raw_latents' in controls or not latents or 'train' not in latents:
    return
  by_split = {'train': raw.train, 'validation': raw.validation}
  found = _again(
    failed, 'raw, latents', lambda: levels.fit_latents(by_split, built.probe_dataset, built.config)
  )
  if found is not None:
    controls['raw_latents'] = {name: layers[0] for name, layers in found['linear'].items()}


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
      'cross_entropy': _over(np.mean, [cell['cross_entropy'] for cell in cells]),
      'by_layer_cv': None if None in curves else np.mean(curves, 0).tolist(),
      'certificate': _over(np.max, [cell['certificate'] for cell in cells]),
      'disjoint': cells[0]['disjoint'],
    }
  return made


def _over(
  reduce: Callable[[Sequence[float]], np.floating], values: Sequence[float | None]
) -> float | None:
  """None where one of them is not known: it was not finite."""
  return None if None in values else float(reduce(values))
