"""One run from its config to its record: train, score, probe, write."""

import importlib.metadata
import io
import json
import math
import os
import subprocess
from typing import Any

import ml_collections
import numpy as np
import tensorboardX
import tqdm

from codes import histogram
from data.sources import Examples
from launch import configs, figures
from launch.errors import UserError
from launch.experiment import Experiment
from objectives import Code
from probes import PROBES, linear, selection
from probes.features import Features
from training import checkpoint, loop, preemption
from training import optimizer as optimizer_lib
from training import state as state_lib
from training.metrics import MetricsWriter, write_atomically

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy', 'scikit-learn')
# Streams of evaluation keys, one a split.
_VALIDATION, _TEST = 0, 1


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


def open_workdir(workdir: str, config: ml_collections.ConfigDict) -> None:
  """Makes the run directory and writes config.json, or checks that the one there is the same."""
  try:
    os.makedirs(workdir, exist_ok=True)
    if os.path.exists(os.path.join(workdir, 'config.json')):
      configs.check_same(workdir, config)
      return
    saved = {'config': configs.plain(config), 'git': git_revision(), 'versions': versions()}
    write_atomically(os.path.join(workdir, 'config.json'), json.dumps(saved, indent=1))
  except OSError as error:
    raise UserError(f'workdir {workdir} can not be written: {error.strerror}') from error


def read_record(workdir: str) -> dict[str, Any] | None:
  """The record of a finished run, None if it is not finished."""
  try:
    with open(os.path.join(workdir, 'run.json'), encoding='utf-8') as file:
      return json.load(file)
  except FileNotFoundError:
    return None


def execute(experiment: Experiment, workdir: str, restore_step: int | None = None) -> dict:
  """Trains (or goes on training), scores and probes; returns and writes the record."""
  open_workdir(workdir, experiment.config)
  checkpoints = checkpoint.Checkpoints(os.path.join(workdir, 'checkpoints'))
  try:
    return _execute(experiment, workdir, checkpoints, restore_step)
  finally:
    checkpoints.close()


def _execute(
  experiment: Experiment,
  workdir: str,
  checkpoints: checkpoint.Checkpoints,
  restore_step: int | None,
) -> dict:
  config, task, mesh = experiment.config, experiment.task, experiment.mesh
  state, counters = loop.restore_or_init(task, config, checkpoints, mesh, restore_step)
  begin = int(state.step)
  writer = MetricsWriter(workdir, begin if begin else None)
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
      lambda params, step: validate(experiment, params),
      mesh,
    )
  record, arrays = assess(experiment, state.params)
  record |= _describe(experiment, workdir, counters, parameters)
  best = checkpoints.best_step()
  if experiment.objective.trains and best not in (None, int(state.step)):
    best_state, _ = checkpoints.restore(_abstract(experiment), best=True)
    best_record, _ = assess(experiment, best_state.params)
    kept = ('bits_per_dim', 'bits_per_dim_stderr', 'probes')
    record['at_best'] = {'step': best, **{name: best_record[name] for name in kept}}
  writer.close()
  write_record(workdir, record, arrays)
  to_tensorboard(experiment, workdir, record)
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
  checkpoints = checkpoint.Checkpoints(os.path.join(workdir, 'checkpoints'))
  try:
    return checkpoints.restore(_abstract(experiment), best=best)
  finally:
    checkpoints.close()


def validate(experiment: Experiment, params: Any) -> dict[str, float]:
  """The objective's own loss on validation, and a small probe; never touches test."""
  config = experiment.config
  values = experiment.per_example(
    params,
    experiment.dataset.validation,
    config.evaluation.validation_draws,
    _VALIDATION,
    interruptible=False,
  )
  scalars = {'validation/loss': float(np.mean(values['loss']))}
  if experiment.objective.code is not Code.NONE:
    scalars['validation/bits_per_dim'] = _bits(experiment, values['nats'])
  if config.probe.during_training and isinstance(experiment.probe_dataset.train, Examples):
    scalars['probe/linear/accuracy'] = _quick_probe(experiment, params)
  return scalars


def _quick_probe(experiment: Experiment, params: Any) -> float:
  """Validation accuracy of a small probe on a fixed balanced subset of the training labels."""
  dataset = experiment.probe_dataset
  labels = dataset.train.labels_N
  size = min(linear.QUICK_LABELS, selection.largest_balanced(labels, dataset.classes))
  rows = np.sort(selection.balanced_subset(labels, size, dataset.classes, 0))
  small = Examples(dataset.train.tokens_NxT[rows], labels[rows])
  train, validation = (
    experiment.features(params, examples.tokens_NxT, interruptible=False)
    for examples in (small, dataset.validation)
  )
  features = Features(
    train=train,
    validation=validation,
    test=train[:, :0],
    labels_train=small.labels_N,
    labels_validation=dataset.validation.labels_N,
    labels_test=labels[:0],
    classes=dataset.classes,
  )
  return linear.quick(features, experiment.config.probe.linear)


def _bits(experiment: Experiment, nats_N: np.ndarray) -> float:
  return float(np.mean(nats_N)) / (experiment.dataset.dims * math.log(2))


def assess(experiment: Experiment, params: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Bits and loss on test, and every probe, of one set of parameters."""
  record, arrays = score(experiment, params)
  preemption.check()
  record['probes'], probe_arrays = probe(experiment, params)
  preemption.check()
  return record, arrays | probe_arrays


def score(experiment: Experiment, params: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Bits per dimension on test by the objective's code, or its loss where it has none."""
  objective = experiment.objective
  record: dict[str, Any] = {
    'bits_per_dim': None,
    'bits_per_dim_stderr': None,
    'evaluation_draws': None,
    'terms': {},
    'test_loss': None,
    'masked_cross_entropy': None,
    'also': {},
  }
  if not objective.trains:
    return record, {}
  draws, values = _test_values(experiment, params, objective)
  record['evaluation_draws'] = draws
  record['test_loss'] = {'value': float(np.mean(values['loss'])), 'unit': objective.loss_unit}
  arrays = {'loss': values['loss']}
  if objective.code is not Code.NONE:
    record |= _bits_cell(experiment, values['nats'])
    arrays = {'nats': values['nats']}
    record['terms'] = {
      name: _bits(experiment, term) for name, term in values.items() if name not in ('nats', 'loss')
    }
  hiding = objective.hiding()
  if hiding is not None:
    _, values = _test_values(experiment, params, hiding)
    record['masked_cross_entropy'] = {
      'bits': float(np.mean(values['loss'])) / math.log(2),
      'histogram_bits': histogram_bits(experiment.dataset),
    }
  for name, other in objective.also(experiment.space).items():
    preemption.check()
    draws, values = _test_values(experiment, params, other)
    record['also'][name] = {
      'code': other.code.value,
      'evaluation_draws': draws,
      **_bits_cell(experiment, values['nats']),
    }
    arrays[f'also/{name}/nats'] = values['nats']
  return record, arrays


def _test_values(experiment: Experiment, params: Any, objective: Any) -> tuple[int, dict]:
  """Draws an example and per-example values on the whole test split."""
  test = experiment.dataset.test
  draws = objective.draws(experiment.config.evaluation.draws, experiment.space)
  with tqdm.tqdm(total=len(test), desc='score', unit='example', disable=None, leave=False) as bar:
    return draws, experiment.per_example(params, test, draws, _TEST, objective, progress=bar.update)


def _bits_cell(experiment: Experiment, nats_N: np.ndarray) -> dict[str, float]:
  """Mean and standard error (over examples) in bits per dimension."""
  stderr = float(np.std(nats_N, ddof=1)) / math.sqrt(len(nats_N))
  return {
    'bits_per_dim': _bits(experiment, nats_N),
    'bits_per_dim_stderr': stderr / (experiment.dataset.dims * math.log(2)),
  }


def histogram_bits(dataset: Any) -> float | None:
  """Bits per dimension of the per-position histogram, None for an endless source."""
  if not isinstance(dataset.train, Examples):
    return None
  train, test = (s.tokens_NxT[:, : dataset.dims] for s in (dataset.train, dataset.test))
  return histogram.position_bits(train, test, dataset.vocabulary)


def probe(experiment: Experiment, params: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Every configured probe on every layer; (results by probe, arrays)."""
  total = sum(len(getattr(experiment.probe_dataset, s)) for s in ('train', 'validation', 'test'))
  with tqdm.tqdm(total=total, desc='features', unit='example', disable=None, leave=False) as bar:
    features = experiment.probe_features(params, progress=bar.update)
  return fit_probes(features, experiment.config)


def fit_probes(
  features: Any, config: ml_collections.ConfigDict
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Runs the probes that `config.probe` names; arrays are prefixed with the probe's name."""
  results, arrays = {}, {'labels': np.asarray(features.labels_test)}
  for name, evaluate in PROBES.items():
    if name in config.probe:
      results[name], found = evaluate(features, config.probe[name], config.evaluation.seed)
      arrays |= {f'{name}/{key}': value for key, value in found.items()}
  return results, arrays


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
    'seed': config.training.seed,
    'size': experiment.size,
    'code': objective.code.value,
    'dataset': dataset.name,
    'probe_dataset': experiment.probe_dataset.name,
    'alphabet': dataset.vocabulary,
    'dims': dataset.dims,
    'classes': experiment.probe_dataset.classes,
    'lossless': dataset.lossless,
    'note': dataset.note,
    'trained': objective.trains,
    'causal': objective.causal,
    'validation': {
      'loss': validation.get('validation/loss'),
      'bits_per_dim': validation.get('validation/bits_per_dim'),
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
    'workdir': os.path.abspath(workdir),
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
  with np.load(os.path.join(workdir, 'arrays.npz')) as arrays:
    return dict(arrays)


def to_tensorboard(experiment: Experiment, workdir: str, record: dict[str, Any]) -> None:
  """Final scalars, the layer curve and the HParams row."""
  step = record['steps']
  results = {'final/bits_per_dim': record['bits_per_dim']}
  for labels, cell in record['probes'].get('linear', {}).items():
    results[f'final/probe/linear/{labels}_labels'] = cell['accuracy']
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


def summary(record: dict) -> str:
  """One line on a finished run."""
  if record['bits_per_dim'] is None:
    bits = 'bits/dim n/a'
  else:
    sign = '' if record['code'] == 'exact' else '≤ '
    bits = f'{sign}{record["bits_per_dim"]:.3f} bits/dim ± {record["bits_per_dim_stderr"]:.3f}'
  cells = record['probes'].get('linear', {})
  shown = ', '.join(f'{100 * c["accuracy"]:.1f} % ({n} labels)' for n, c in cells.items())
  return f'{record["objective"]} seed {record["seed"]}: {bits}; linear probe {shown}'
