"""Which runs a comparison consists of, and what it compares them with."""

from collections.abc import Sequence
import dataclasses
import importlib.util
import json
import os
import re
import sys
from typing import Any

import ml_collections

from codes import histogram
from launch import configs, experiment, run
from launch.errors import UserError
import objectives
from probes import features
from training.metrics import write_atomically

_DEFAULT = ('autoregressive', 'masked', 'masked_diffusion', 'supervised')
_CONTROLS = ('untrained', 'untrained_causal')


@dataclasses.dataclass(frozen=True)
class PlannedRun:
  """One process to start."""

  name: str
  workdir: str
  config: ml_collections.ConfigDict
  command: list[str]

  @property
  def log(self) -> str:
    return os.path.join(self.workdir, 'log.txt')

  @property
  def steps(self) -> int:
    trains = objectives.OBJECTIVES[self.config.objective.name].trains
    return self.config.training.steps if trains else 0


def _listed(path: str) -> tuple[str, ...]:
  """The objectives that a config file asks to compare: its COMPARE, else all of step one."""
  spec = importlib.util.spec_from_file_location('_compared_config', path)
  if spec is None or spec.loader is None or not os.path.isfile(path):
    raise UserError(f'config file {path} does not exist')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return getattr(module, 'COMPARE', _DEFAULT + _CONTROLS)


def make(
  path: str,
  names: Sequence[str] | None,
  seeds: Sequence[int],
  rates: Sequence[float] | None,
  overrides: Sequence[str],
  workdir: str,
  data_dir: str,
) -> tuple[list[PlannedRun], dict[str, str]]:
  """Every run, checked before the first one starts.

  Prepares the data sets once, so that no two runs do. An objective that the config file lists but
  its data can't serve is left out with a reason; one that the user named is an error.

  Returns:
    The runs, objective by objective inside a seed, and the reasons of those left out.
  """
  if ':' in os.path.basename(path):
    raise UserError(f'--config={path}: compare takes the file alone; see --objectives')
  chosen = list(names or _listed(path))
  by_name, left_out = {}, {}
  applied: set[str] = set()
  for name in chosen:
    fitting = [o for o in overrides if _applies(o, path, name)]
    applied.update(fitting)
    config = configs.load(path, name, fitting)
    try:
      built = experiment.build(config, data_dir)
    except UserError as error:
      if names or not _is_about_labels(name):
        raise
      left_out[name] = str(error)
      continue
    by_name[name] = (fitting, built.objective.trains)
  for override in overrides:
    if override not in applied:
      raise UserError(f'{override}: none of {", ".join(chosen)} has this setting')
  runs = []
  for seed in seeds:
    for name, (fitting, trains) in by_name.items():
      for rate in rates if rates and trains else [None]:
        runs.append(_plan(path, name, seed, rate, fitting, workdir, data_dir))
  if not runs:
    raise UserError('no objective is left to compare')
  for planned in runs:
    if os.path.exists(os.path.join(planned.workdir, 'config.json')):
      configs.check_same(planned.workdir, planned.config)
  return runs, left_out


def _is_about_labels(name: str) -> bool:
  return objectives.OBJECTIVES[name].uses_labels


def _applies(override: str, path: str, name: str) -> bool:
  """Objective settings go to the objectives that have them; everything else goes to all."""
  setting = re.match(r'--config\.objective\.(\w+)=', override)
  if setting is None:
    return True
  if name not in objectives.OBJECTIVES:
    configs.load(path, name, ())
  return setting[1] in objectives.settings(name)


def _plan(path, name, seed, rate, fitting, workdir, data_dir) -> PlannedRun:
  arguments = [*fitting, f'--config.training.seed={seed}']
  if rate is not None:
    arguments.append(f'--config.optimizer.learning_rate={rate!r}')
  label = f'{name}-seed{seed}' if rate is None else f'{name}-lr{rate:g}-seed{seed}'
  directory = os.path.join(workdir, 'runs', label)
  command = [
    sys.executable,
    '-m',
    'launch.train',
    f'--config={path}:{name}',
    f'--workdir={directory}',
    f'--data_dir={data_dir}',
    *arguments,
  ]
  return PlannedRun(label, directory, configs.load(path, name, arguments), command)


def write_controls(planned: PlannedRun, workdir: str, data_dir: str) -> None:
  """Probes of the raw input and the codes that know nothing, to WORKDIR/controls.json."""
  path = os.path.join(workdir, 'controls.json')
  dataset, probed = experiment.load_datasets(planned.config, data_dir)
  asked = configs.plain(planned.config)
  key = {name: asked[name] for name in ('data', 'probe_data', 'probe', 'evaluation')}
  try:
    with open(path, encoding='utf-8') as file:
      if json.load(file).get('of') == key:
        return
  except (OSError, json.JSONDecodeError):
    pass
  results, _ = run.fit_probes(features.raw(probed), planned.config)
  controls: dict[str, Any] = {
    'of': key,
    'raw': results,
    'histogram_bits_per_dim': run.histogram_bits(dataset),
    'uniform_bits_per_dim': histogram.uniform_bits(dataset.vocabulary),
  }
  write_atomically(path, json.dumps(controls, indent=1, allow_nan=False) + '\n')
