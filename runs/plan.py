"""Which runs a comparison consists of, and what it compares them with."""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import glob
import importlib.util
import itertools
import json
import os
import re
import sys

from etils import epath
import ml_collections

from models.config import PRESETS
import objectives
from runs import checks, configs, experiment, ordering, parents, variants
from runs import run as run_lib
from runs.errors import UserError
from training.metrics import write_atomically

_DEFAULT = (
  'autoregressive',
  'masked',
  'masked_diffusion',
  'gaussian_diffusion',
  'supervised',
)
# Initial parameters as each objective's backbone is called and scaled.
_CONTROLS = ('untrained', 'untrained_causal', 'untrained_gaussian')


Tuning = tuple[float | None, float | None]


@dataclasses.dataclass(frozen=True)
class PlannedRun:
  """One process to start.

  Attributes:
    kind: objective, variant and size.
    tuning: its learning rate and clip norm, None where they are the config's own.
  """

  name: str
  workdir: str
  config: ml_collections.ConfigDict
  command: list[str]
  kind: str = ''
  tuning: Tuning = (None, None)

  @property
  def objective(self) -> str:
    """As reports name it: 'masked ratio=0.5'."""
    return ' '.join(filter(None, (self.config.objective.name, self.config.variant)))

  @property
  def log(self) -> str:
    return os.path.join(self.workdir, 'log.txt')

  @property
  def steps(self) -> int:
    trains = objectives.OBJECTIVES[self.config.objective.name].trains
    return self.config.training.steps if trains else 0


@dataclasses.dataclass(frozen=True)
class Defaults:
  """What a config file says of its own comparison.

  Attributes:
    objectives: which to compare (COMPARE), as `variants.parse` reads them.
    seeds: pretraining seeds (SEEDS).
    replicates: name -> overrides of what else is repeated, such as the draw of a grammar
      (REPLICATES).
    pilots: the same for pilot runs (PILOTS).
  """

  objectives: tuple[str, ...]
  seeds: tuple[int, ...]
  replicates: dict[str, tuple[str, ...]]
  pilots: dict[str, tuple[str, ...]]


def defaults(path: str) -> Defaults:
  """Reads the defaults of a config file; UserError if there is no such file."""
  spec = importlib.util.spec_from_file_location('_compared_config', path)
  if spec is None or spec.loader is None or not os.path.isfile(path):
    raise UserError(f'config file {path} does not exist')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  replicates = getattr(module, 'REPLICATES', {'': ()})
  return Defaults(
    objectives=getattr(module, 'COMPARE', _DEFAULT + _CONTROLS),
    seeds=getattr(module, 'SEEDS', (0, 1)),
    replicates=replicates,
    pilots=getattr(module, 'PILOTS', replicates),
  )


def make(
  path: str,
  names: Sequence[str] | None,
  seeds: Sequence[int] | None,
  rates: Sequence[float] | None,
  overrides: Sequence[str],
  workdir: str,
  data_dir: str,
  sizes: Sequence[str] | None = None,
  clips: Sequence[float] | None = None,
  build: bool = True,
  tuned: Mapping[str, Tuning] | None = None,
  pilots: bool = False,
) -> tuple[list[PlannedRun], list[str]]:
  """Every run, checked before the first one starts.

  Prepares the data sets once, so that no two runs do. An objective that the config file lists but
  its data can't serve is left out with a reason; one that the user named is an error.

  Without `build` no data is looked at, so that runs can be planned where there is none: then a
  setting that does not suit the data fails where the run starts. With `tuned`, the point of the
  grid by `PlannedRun.kind`, there is no other. `pilots` are runs to choose those by: what
  the config file repeats for them is PILOTS, and no report reads them.

  Returns:
    The runs, objective by objective inside a seed, the smallest size first, and a line on
    everything that the reader should know of the plan.
  """
  if ':' in os.path.basename(path):
    raise UserError(f'--config={path}: compare takes the file alone; see --objectives')
  if names is not None and not names:
    raise UserError('--objectives must name one at least')
  own = defaults(path)
  chosen = [variants.parse(text) for text in names or own.objectives]
  everywhere = [*overrides, *(text for variant in chosen for text in variant.overrides)]
  if sizes is not None:
    sizes = _ordered(sizes, everywhere)
  _refuse_twice(everywhere, rates, clips)
  by_name, notes = {}, []
  applied: set[str] = set()
  for variant in chosen:
    name = variant.objective
    fitting = [o for o in overrides if _applies(o, path, name)]
    applied.update(fitting)
    fitting = [*fitting, *variant.overrides]
    config = configs.load(path, name, fitting)
    if not build:
      _check_without_data(config)
      by_name[variant] = (fitting, objectives.OBJECTIVES[name].trains)
      continue
    try:
      built = experiment.build(config, data_dir)
      checks.check_probes(built)
      parents.find(built)
      ordering.check(built)
    except experiment.Unsuitable as reason:
      if names:
        raise
      notes.append(f'{variant.slug} is left out: {reason}')
      continue
    by_name[variant] = (fitting, built.objective.trains)
  for override in overrides:
    if override not in applied:
      names_ = ', '.join(dict.fromkeys(variant.objective for variant in chosen))
      raise UserError(f'{override}: none of {names_} has this setting')
  runs = []
  repeats = own.pilots if pilots else own.replicates
  for size, (tag, repeated) in itertools.product(sizes or [None], repeats.items()):
    for seed in seeds or own.seeds:
      for variant, (fitting, trains) in by_name.items():
        kind = '-'.join(part for part in (variant.slug, size) if part)
        grid = itertools.product(rates or [None], clips or [None])
        if not trains:
          grid = [(None, None)]
        elif tuned is not None:
          grid = [tuned[kind]]
        for tuning in grid if trains or not pilots else ():
          arguments = [*repeated, *fitting, f'--config.training.seed={seed}']
          runs.append(
            _plan(path, variant, kind, size, tuning, seed, tag, arguments, workdir, data_dir)
          )
  if not runs:
    raise UserError('no objective is left to compare')
  for run in runs:
    if not os.path.exists(os.path.join(run.workdir, 'run.json')):
      checks.check_run(run.config)
  _check_directories(runs, workdir)
  return runs, notes


def _check_without_data(config: ml_collections.ConfigDict) -> None:
  """UserError for settings that no data could make right."""
  checks.check_settings(config)
  chosen = config.objective.to_dict()
  try:
    objectives.get(chosen.pop('name'), **chosen)
  except (ValueError, TypeError) as error:
    raise UserError(str(error)) from error


def write_manifest(runs: Sequence[PlannedRun], workdir: str) -> None:
  """WORKDIR/sweep.json: the runs that launch.status expects, beside those planned there before.

  Directories are relative to WORKDIR, so that a copy of it can be read too.
  """
  path = epath.Path(workdir, 'sweep.json')
  rows = {}
  with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
    rows = {row['workdir']: row for row in json.loads(path.read_text())['runs']}
  for run in runs:
    where = run.workdir.removeprefix(workdir.rstrip('/') + '/')
    rows[where] = {'name': run.name, 'workdir': where, 'steps': run.steps, 'command': run.command}
  path.parent.mkdir(parents=True, exist_ok=True)
  write_atomically(str(path), json.dumps({'runs': list(rows.values())}, indent=1) + '\n')


def _refuse_twice(
  overrides: Sequence[str], rates: Sequence[float] | None, clips: Sequence[float] | None
) -> None:
  """UserError for a field that an override and the plan both say: one of them would be ignored."""
  planned = [('training.seed', '--seeds')]
  planned += [('optimizer.learning_rate', '--learning_rates')] * bool(rates)
  planned += [('optimizer.clip_norm', '--clip_norms')] * bool(clips)
  for field, flag in planned:
    for override in overrides:
      if override.startswith(f'--config.{field}='):
        raise UserError(f'{override} and {flag} both say {field}: give one')


def _ordered(sizes: Sequence[str], overrides: Sequence[str]) -> list[str]:
  """The sizes from small to large; UserError if they can't be what is compared."""
  for size in sizes:
    if size not in PRESETS:
      raise UserError(f"--sizes: unknown size '{size}'; known: {', '.join(PRESETS)}")
  if not sizes or len(set(sizes)) != len(sizes):
    raise UserError(f'--sizes must name each size once, at least one: {",".join(sizes)}')
  for override in overrides:
    if re.match(r'--config\.model\.(preset|width|layers|heads)=', override):
      raise UserError(f'{override} and --sizes both say how large the backbone is: give one')
  return [size for size in PRESETS if size in sizes]


def _check_directories(runs: Sequence[PlannedRun], workdir: str) -> None:
  """UserError where a directory holds another run than planned, or a finished one is planned again.

  The same run under two names could not stand in one report.
  """
  planned: dict[str, dict] = {}
  for run in runs:
    if run.workdir in planned:
      raise UserError(f'two runs would be written to {run.workdir}: their settings look alike')
    planned[run.workdir] = configs.plain(run.config)
  for run in runs:
    if os.path.exists(os.path.join(run.workdir, 'config.json')):
      run_lib.check_same(run.workdir, run.config)
  for path in sorted(glob.glob(os.path.join(glob.escape(workdir), 'runs', '*', 'run.json'))):
    directory = os.path.dirname(path)
    if directory in planned or not os.path.exists(os.path.join(directory, 'config.json')):
      continue
    found = configs.read_saved(directory)['config']
    again = [other for other, config in planned.items() if config == found]
    if again:
      raise UserError(
        f'{directory} is finished and would be trained again as {os.path.basename(again[0])}: '
        'rename it to that, or choose another --workdir'
      )


def _applies(override: str, path: str, name: str) -> bool:
  """Objective settings go to the objectives that have them; everything else goes to all.

  What training starts from is no setting of a control that does not train.
  """
  if re.match(r'--config\.training\.init_(from|checkpoint)=', override):
    return name not in objectives.OBJECTIVES or objectives.OBJECTIVES[name].trains
  setting = re.match(r'--config\.objective\.(\w+)=', override)
  if setting is None:
    return True
  if name not in objectives.OBJECTIVES:
    configs.load(path, name, ())
  return setting[1] in objectives.settings(name)


def _plan(path, variant, kind, size, tuning, seed, tag, arguments, workdir, data_dir) -> PlannedRun:
  name, parts, (rate, clip) = variant.objective, [variant.slug], tuning
  if size is not None:
    arguments = [*arguments, f'--config.model.preset={size}']
    parts.append(size)
  if rate is not None:
    arguments = [*arguments, f'--config.optimizer.learning_rate={rate!r}']
    parts.append(f'lr{rate:g}')
  if clip is not None:
    arguments = [*arguments, f'--config.optimizer.clip_norm={clip!r}']
    parts.append(f'clip{clip:g}')
  parts.append(f'seed{seed}')
  if tag:
    parts.append(tag)
  label = '-'.join(parts)
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
  config = configs.load(path, name, arguments)
  if size is not None and (config.model.width or config.model.layers or config.model.heads):
    raise UserError(f'--sizes: {path} itself says how large the backbone is (config.model)')
  return PlannedRun(label, directory, config, command, kind, tuning)
