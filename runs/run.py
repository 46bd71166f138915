"""One run from its config to its record: train, score, probe, write."""

from collections.abc import Iterator, Mapping
import contextlib
import importlib.metadata
import io
import json
import os
import subprocess
from typing import Any

from etils import epath
import ml_collections
import numpy as np
import tensorboardX

from probes.measures import at, headline
from reports import figures, figures_samples, wording
from runs import assessment, configs, evaluators
from runs.errors import UserError
from runs.experiment import Experiment
from training import checkpoint, distributed, loop, profile
from training import optimizer as optimizer_lib
from training import state as state_lib
from training.errors import Preempted
from training.metrics import MetricsWriter, is_remote, write_atomically

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy', 'scikit-learn')


def versions() -> dict[str, str]:
  return {name: importlib.metadata.version(name) for name in _PACKAGES}


def git_revision() -> str | None:
  """The revision of this code, with a + if it has uncommitted changes; None outside git."""
  here = os.path.dirname(os.path.abspath(__file__))
  try:
    out = subprocess.run(
      ['git', 'describe', '--always', '--abbrev=12', '--exclude=*', '--dirty=+'],
      cwd=here,
      capture_output=True,
      text=True,
      check=True,
    )
    return out.stdout.strip() or None
  except (OSError, subprocess.CalledProcessError):
    return None


_BEGUN = 'checkpoints'  # In the directory of every run that has begun.


def open_workdir(workdir: str, config: ml_collections.ConfigDict) -> None:
  """Makes the run directory and writes config.json, or checks that the one there is the same."""
  try:
    with distributed.primary_first():
      epath.Path(workdir).mkdir(parents=True, exist_ok=True)
      # A run that was refused has computed nothing yet: its config may still be put right.
      begun = epath.Path(workdir, _BEGUN).exists() or read_record(workdir)
      begun = begun or not distributed.is_primary()  # The first process has just written it.
      if begun and epath.Path(workdir, 'config.json').exists():
        configs.check_same(workdir, config)
        return
      saved = {'config': configs.plain(config), 'git': git_revision(), 'versions': versions()}
      write_atomically(os.path.join(workdir, 'config.json'), json.dumps(saved, indent=1))
  except OSError as error:
    raise UserError(f'workdir {workdir} can not be written: {error.strerror}') from error


def read_record(workdir: str) -> dict[str, Any] | None:
  """The record of a finished run, None if it is not finished."""
  try:
    return json.loads(epath.Path(workdir, 'run.json').read_text())
  except FileNotFoundError:
    return None


def execute(
  experiment: Experiment,
  workdir: str,
  restore_step: int | None = None,
  known: Mapping[str, Any] | None = None,
  profiled: profile.Steps | None = None,
) -> dict:
  """Trains (or goes on training), scores and probes; returns and writes the record.

  `profiled` names steps of which a trace is written to the run directory.
  `known` replaces fields of the record that only a run trained here can fill in.
  """
  open_workdir(workdir, experiment.config)
  checkpoints = checkpoint.Checkpoints(os.path.join(workdir, _BEGUN))
  try:
    with telling(workdir):
      tracer = profile.Tracer(workdir, profiled)
      return _execute(experiment, workdir, checkpoints, restore_step, known or {}, tracer)
  finally:
    checkpoints.close()


@contextlib.contextmanager
def telling(workdir: str) -> Iterator[None]:
  """Keeps WORKDIR/state.json: running, then done, preempted or failed with a reason."""
  say(workdir, 'running')
  try:
    yield
  except Preempted:
    say(workdir, 'preempted')
    raise
  except Exception as error:
    text = str(error) if isinstance(error, UserError) else f'{type(error).__name__}: {error}'
    say(workdir, 'failed', text)
    raise
  say(workdir, 'done')


def say(workdir: str, state: str, reason: str = '') -> None:
  """WORKDIR/state.json, for launch.status: the last thing that is known of the run."""
  if distributed.is_primary():
    said = {'state': state, 'reason': ' '.join(reason.split())[:300]}
    write_atomically(os.path.join(workdir, 'state.json'), json.dumps(said) + '\n')


def _execute(
  experiment: Experiment,
  workdir: str,
  checkpoints: checkpoint.Checkpoints,
  restore_step: int | None,
  known: Mapping[str, Any],
  tracer: profile.Tracer,
) -> dict:
  config, task, mesh = experiment.config, experiment.task, experiment.mesh
  state, counters = loop.restore_or_init(task, config, checkpoints, mesh, restore_step)
  begin = int(state.step)
  writer = MetricsWriter(workdir, begin if begin else None, distributed.is_primary())
  parameters = {k: state_lib.count(v) for k, v in state.params.items()}
  if experiment.objective.trains:
    state = loop.train(
      task,
      config,
      experiment.batches,
      state,
      counters,
      experiment.costs,
      checkpoints,
      writer,
      evaluators.build(experiment),
      configs.schedules(config)['checkpoints'],
      mesh,
      tracer,
    )
  record, arrays = assessment.assess(experiment, state.params)
  record |= _describe(experiment, workdir, counters, parameters) | dict(known)
  best = checkpoints.best_step()
  if experiment.objective.trains and best not in (None, int(state.step)):
    best_state, _ = checkpoints.restore(_abstract(experiment), best=True)
    best_record, _ = assessment.score(experiment, best_state.params)
    kept = ('bits_per_dim', 'bits_per_dim_stderr', 'truth')
    record['at_best'] = {'step': best, **{name: best_record[name] for name in kept}}
    # The secondary checkpoint gets the primary probe alone.
    record['at_best']['probes'], _ = assessment.probe(experiment, best_state.params, ('linear',))
  writer.close()
  if distributed.is_primary():
    write_record(workdir, record, arrays)
    to_tensorboard(experiment, workdir, record, arrays.get('samples'))
  return record


def _abstract(experiment: Experiment) -> state_lib.TrainState:
  config = experiment.config
  optimizer = optimizer_lib.make_optimizer(config.optimizer, config.training.steps)
  return state_lib.abstract_state(experiment.task, optimizer, experiment.mesh)


def restore(experiment: Experiment, workdir: str, *, best: bool) -> tuple[Any, dict]:
  """State and counters of a finished run; an untrained one is made again from its seed."""
  if not experiment.objective.trains:
    config = experiment.config
    optimizer = optimizer_lib.make_optimizer(config.optimizer, config.training.steps)
    return state_lib.init_state(experiment.task, optimizer, experiment.mesh), {}
  checkpoints = checkpoint.Checkpoints(os.path.join(workdir, _BEGUN))
  try:
    return checkpoints.restore(_abstract(experiment), best=best)
  finally:
    checkpoints.close()


def _describe(
  experiment: Experiment, workdir: str, counters: loop.Counters, parameters: dict[str, int]
) -> dict[str, Any]:
  """What the record says of the run beside its numbers."""
  config, dataset, objective = experiment.config, experiment.dataset, experiment.objective
  steps, costs = experiment.steps, experiment.costs
  examples = steps * config.training.batch_size
  validation = counters.validation
  return {
    'schema': 1,
    'objective': config.objective.name,
    'settings': {k: v for k, v in config.objective.items() if k != 'name'},
    'settings_of_data': {k: v for k, v in config.data.items() if k != 'name'},
    'trained_on': objective.trained_on if objective.trains else None,
    'sample_shape': list(dataset.shape),
    'seed': config.training.seed,
    'size': experiment.size,
    'code': objective.code.value,
    'dataset': dataset.name,
    'probe_dataset': experiment.probe_dataset.name,
    'alphabet': dataset.vocabulary,
    'dims': dataset.dims,
    'length': dataset.length,
    'classes': experiment.probe_dataset.classes,
    'lossless': dataset.lossless,
    'note': experiment.note,
    'data_hash': dataset.digest,
    'probe_data_hash': experiment.probe_dataset.digest,
    'majority': assessment.majority(experiment),
    'trained': objective.trains,
    'causal': objective.backbone(experiment.space).pattern[0] == 'causal',
    'validation': {
      'loss': validation.get('validation/loss'),
      'bits_per_dim': validation.get('validation/bits_per_dim'),
      'token_accuracy': validation.get('validation/token_accuracy'),
      'best_loss': counters.best_loss,
      'best_step': counters.best_step,
    },
    'train_bits_per_dim': counters.train.get('train/bits_per_dim'),
    'train_loss': counters.train.get('train/loss'),
    'loss_unit': objective.loss_unit,
    'learning_rate': config.optimizer.learning_rate if objective.trains else None,
    'learning_rate_grid': None,
    'input_scale': config.model.token_init,
    'parameters': sum(parameters.values()),
    'parameters_backbone': parameters['backbone'],
    'train_flops': steps * costs.flops,
    'flops_per_step': costs.flops if objective.trains else 0.0,
    'steps': steps,
    'tokens_seen': steps * costs.tokens,
    'tokens_scored': counters.tokens_scored,
    'epochs': examples / dataset.epoch if dataset.epoch else None,
    'clipped_fraction': counters.clipped_steps / steps if steps else None,
    'saw_labels': objective.uses_labels,
    'wall_seconds': counters.wall_seconds,
    'workdir': workdir if is_remote(workdir) else os.path.abspath(workdir),
    'git': git_revision(),
    'versions': versions(),
    'at_best': None,
  }


def write_record(workdir: str, record: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
  """Arrays first: a run.json means that everything is there."""
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  write_atomically(os.path.join(workdir, 'arrays.npz'), buffer.getvalue())
  text = json.dumps(record, indent=1, allow_nan=False)
  write_atomically(os.path.join(workdir, 'run.json'), text + '\n')


def read_arrays(workdir: str) -> dict[str, np.ndarray]:
  """The arrays saved with a finished run."""
  with np.load(io.BytesIO(epath.Path(workdir, 'arrays.npz').read_bytes())) as arrays:
    return dict(arrays)


def to_tensorboard(
  experiment: Experiment, workdir: str, record: dict[str, Any], samples_NxT: np.ndarray | None
) -> None:
  """Final scalars, the layer curve, samples and the HParams row."""
  step = record['steps']
  results = {'final/bits_per_dim': record['bits_per_dim']}
  results['final/token_accuracy'] = record.get('token_accuracy')
  for labels, cell in record['probes'].get('linear', {}).items():
    results[f'final/probe/linear/{labels}_labels'] = cell['accuracy']
  for measure in headline():
    results[f'final/probe/{measure.name}'] = at(record['probes'], measure.path)
  settings = {
    'objective': record['objective'],
    'seed': record['seed'],
    'size': record['size'],
    'learning_rate': experiment.config.optimizer.learning_rate,
  }
  # TensorBoard takes its columns from whichever run it reads first, so every run declares all of
  # them, also the bits of an objective that has none; values are written only where they exist.
  declared = tensorboardX.summary.hparams(settings, dict.fromkeys(results, 0.0))
  with tensorboardX.SummaryWriter(workdir) as board:
    for summary_proto in declared:
      board.file_writer.add_summary(summary_proto)
    for name, value in results.items():
      if value is not None:
        board.add_scalar(name, value, step)
    figure = figures.layer_curve(record)
    if figure is not None:
      board.add_figure('probe/linear/accuracy_by_layer', figure, step, close=False)
    shape = experiment.dataset.shape
    if samples_NxT is not None and len(shape) == 2:
      grid = figures_samples.sample_grid(samples_NxT, shape, record['alphabet'])
      board.add_image('samples', np.kron(grid, np.ones((4, 4), np.uint8)), step, dataformats='HW')


def summary(record: dict) -> str:
  """One line on a finished run."""
  if record['bits_per_dim'] is None:
    bits = 'bits/dim n/a'
  else:
    sign = '' if record['code'] == 'exact' else '≤ '
    bits = f'{sign}{record["bits_per_dim"]:.3f} bits/dim ± {record["bits_per_dim_stderr"]:.3f}'
  cells = record['probes'].get('linear', {})
  if not cells:
    return f'{record["objective"]} seed {record["seed"]}: {bits}'
  shown = ', '.join(f'{100 * c["accuracy"]:.1f} % ({n} labels)' for n, c in cells.items())
  left_out = ''.join(f'; {line}' for line in wording.left_out_lines(record['probes'], ('linear',)))
  return f'{record["objective"]} seed {record["seed"]}: {bits}; linear probe {shown}{left_out}'
