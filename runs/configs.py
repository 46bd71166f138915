"""Reading, printing, saving and comparing configs."""

from collections.abc import Callable, Iterator, Sequence
import json
import os
from typing import Any

from absl import flags
from etils import epath
import ml_collections
from ml_collections import config_flags

from experiments import base
from reports import reading
from runs.errors import UserError, describe_flag_error
from training.schedule import Schedule

# Fields that are younger than some runs, and what those runs did.
_YOUNGER = {
  'model': {'remat_policy': 'full', 'attention': 'xla', 'unroll': 'never'},
  'training': {'microbatches': 1},
  'evaluation': {'chain_examples': 0, 'test': True},
}


def load(path: str, objective: str | None, overrides: Sequence[str]) -> ml_collections.ConfigDict:
  """The config of `path` for one objective, with `--config.a.b=c` overrides applied.

  Raises:
    UserError: no such file, unknown objective, unknown field or wrong type.
  """
  if not os.path.isfile(path):
    raise UserError(f'config file {path} does not exist')
  spec = path if objective is None else f'{path}:{objective}'

  def define(values: flags.FlagValues, argv: list[str]) -> None:
    config_flags.DEFINE_config_file('config', flag_values=values, sys_argv=argv)

  return _parse(define, [f'--config={spec}', *overrides])


def load_named(
  name: str, overrides: Sequence[str], objective: str | None = None
) -> ml_collections.ConfigDict:
  """The config of 'FILE:OBJECTIVE', or of FILE for `objective`; as `load`."""
  path, _, own = name.partition(':')
  return load(path, own or objective, overrides)


def override(config: ml_collections.ConfigDict, overrides: Sequence[str]) -> Any:
  """A copy of `config` with `--config.a.b=c` overrides applied; UserError as in `load`."""
  copied = ml_collections.ConfigDict(config.to_dict())

  def define(values: flags.FlagValues, argv: list[str]) -> None:
    config_flags.DEFINE_config_dict('config', copied, flag_values=values, sys_argv=argv)

  return _parse(define, list(overrides))


def _parse(
  define: Callable[[flags.FlagValues, list[str]], Any], arguments: list[str]
) -> ml_collections.ConfigDict:
  argv = ['config', *arguments]
  values = flags.FlagValues()
  try:
    define(values, argv)
    values(argv)
    return _apart(values.config)
  except (flags.Error, AttributeError, KeyError, TypeError, ValueError, OSError) as error:
    raise UserError(describe_flag_error(error)) from error


def _apart(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Words of a tuple at their commas: the library splits numbers alone, and takes a,b for one."""
  for name, value in fields(config):
    if isinstance(value, tuple) and value and all(isinstance(item, str) for item in value):
      words = tuple(word for item in value for word in item.split(','))
      if all(word.isidentifier() for word in words):
        config.update_from_flattened_dict({name: words})
  return config


def fields(config: ml_collections.ConfigDict, prefix: str = '') -> Iterator[tuple[str, Any]]:
  """(dotted name, value) of every field."""
  for name, value in config.items():
    if isinstance(value, ml_collections.ConfigDict):
      yield from fields(value, f'{prefix}{name}.')
    else:
      yield prefix + name, value


def describe(config: ml_collections.ConfigDict) -> str:
  """One line a field: --config.name=value and its type."""
  rows = [
    (f'--config.{name}={_shown(value)}', type(value).__name__) for name, value in fields(config)
  ]
  width = max(len(left) for left, _ in rows)
  return '\n'.join(f'{left:<{width}}  {kind}' for left, kind in rows)


def _shown(value: Any) -> str:
  return ','.join(map(str, value)) if isinstance(value, tuple) else str(value)


def plain(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The config as JSON would return it."""
  return json.loads(json.dumps(config.to_dict()))


def from_plain(values: dict[str, Any]) -> ml_collections.ConfigDict:
  """The inverse of `plain`: JSON's lists become tuples again."""

  def restore(value: Any) -> Any:
    if isinstance(value, dict):
      return {name: restore(item) for name, item in value.items()}
    return tuple(value) if isinstance(value, list) else value

  return ml_collections.ConfigDict(restore(values))


def schedules(config: ml_collections.ConfigDict) -> dict[str, Schedule]:
  """Every entry of `config.evaluators`, and 'checkpoints'; UserError for one that can't be."""
  entries = {f'evaluators.{name}': entry for name, entry in config.evaluators.items()}
  made = {}
  for name, entry in {**entries, 'checkpoints': config.checkpoints}.items():
    try:
      made[name.removeprefix('evaluators.')] = Schedule(**entry.to_dict())
    except (TypeError, ValueError) as error:
      raise UserError(f'{name}: {error}') from error
  return made


def read_saved(workdir: str) -> dict[str, Any]:
  """The content of WORKDIR/config.json; UserError if there is none or it can't be read."""
  path = os.path.join(workdir, 'config.json')
  try:
    saved = json.loads(epath.Path(path).read_text())
  except FileNotFoundError as error:
    raise UserError(f'{workdir} is not a run directory: it has no config.json') from error
  except (OSError, ValueError) as error:
    raise UserError(f'{path} can not be read: {error}') from error
  if not isinstance(saved, dict) or not isinstance(saved.get('config'), dict):
    raise UserError(f'{path} can not be read: it holds no config')
  try:
    _modernise(saved['config'])
  # Such as an objective that is none, or a section that is a number.
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise UserError(f'{path} can not be read: {error}') from error
  return saved


def read_record(workdir: str) -> dict[str, Any] | None:
  """The record of a finished run, None if it is not finished; UserError for one that is damaged."""
  path = epath.Path(workdir, 'run.json')
  try:
    record = json.loads(path.read_text())
    fault = reading.fault(record)
  except FileNotFoundError:
    return None
  except (OSError, ValueError) as error:
    fault = error
  if fault:
    raise UserError(
      f'{path} can not be read: {fault}; move it away, and launch.train or '
      'launch.compare makes it again'
    )
  return record


def _modernise(config: dict[str, Any]) -> None:
  """Says in today's fields what a run of an earlier version did; newer fields have defaults."""
  for section, fields_ in _YOUNGER.items():
    if section in config:
      config[section] = fields_ | config[section]
  if isinstance(config.get('model', {}).get('unroll'), bool):
    config['model']['unroll'] = 'always' if config['model']['unroll'] else 'never'
  training, probe = config.get('training', {}), config.get('probe', {})
  if 'prequential' in probe:
    probe['prequential'] = {'orders': 1} | probe['prequential']
  if 'prequential' in probe.get('finetune', {}):
    probe['finetune']['prequential'] = {'orders': 1} | probe['finetune']['prequential']
  if 'evaluate_every' in training:
    every, at = training.pop('evaluate_every'), [0, *training.pop('evaluate_at', ())]
    regular = {'every': every, 'at': at, 'last': True}
    quick, code = (probe.pop(f'{name}during_training', None) for name in ('', 'code_'))
    config['evaluators'] = {
      'validation': regular,
      'probe': regular | {'every': every if quick in (True, None) else 0},
      'label_code': regular | {'every': every if code else 0},
      'samples': regular | {'every': 0},
    }
    config['checkpoints'] = regular | {'minutes': 0.0}
  if 'objective' in config:
    _fill(config, plain(base.get_base(config['objective']['name'])))


def _fill(config: dict[str, Any], defaults: dict[str, Any]) -> None:
  """Gives `config` the fields that it lacks, section by section."""
  for name, value in defaults.items():
    if isinstance(value, dict) and isinstance(config.get(name), dict):
      _fill(config[name], value)
    else:
      config.setdefault(name, value)


# How test is scored, which whoever leaves test out does not ask.
_OF_TEST = ('evaluation.test', 'evaluation.draws', 'evaluation.chain_examples')
# What may change once training is complete: nothing that was computed depends on it.
_AFTER_TRAINING = ('probe.', 'evaluation.')


def check_same(workdir: str, config: ml_collections.ConfigDict, trained: bool = False) -> bool:
  """Whether the run in `workdir` has another config in nothing but what may change by now.

  Args:
    workdir: of the run.
    config: as it is asked for now.
    trained: whether its training is complete, and its record is not written.

  Raises:
    UserError: it has another config; shows the difference.
  """
  saved = dict(fields(from_plain(read_saved(workdir)['config'])))
  asked = plain(config)
  _fill(asked, plain(base.get_base(asked['objective']['name'])))
  now = dict(fields(from_plain(asked)))
  names = [n for n in sorted(saved.keys() | now.keys()) if saved.get(n) != now.get(n)]
  if not any('finetune' in found.get('probe.suite', ()) for found in (saved, now)):
    # They are of launch.finetune, whose record has its own.
    names = [name for name in names if not name.startswith('probe.finetune.')]
  if not now['evaluation.test']:
    names = [name for name in names if name not in _OF_TEST]
  if names and trained and all(name.startswith(_AFTER_TRAINING) for name in names):
    return True
  changed = [
    f'{name} {_shown(saved.get(name, "absent"))} -> {_shown(now.get(name, "absent"))}'
    for name in names
  ]
  if changed:
    raise UserError(
      f'{workdir} holds a run of another config: {"; ".join(changed)}; choose another --workdir'
    )
  return False
