"""The record of a run: what it says, how it is written and read, how TensorBoard shows it."""

from collections.abc import Mapping
import io
import json
import os
from typing import Any

from etils import epath
import ml_collections
import numpy as np

from probes.measures import at, headline
from reports import numbers, reading, wording
from runs import assessment, configs, parents, whole
from runs.assembled import Experiment
from runs.errors import UserError
from runs.experiment import source
from training import board, loop
from training.metrics import is_remote, write_atomically

# Settings of results: they may change until the record is written.
RESULTS = ('probe', 'evaluation')


def describe(
  experiment: Experiment,
  workdir: str,
  counters: loop.Counters,
  parameters: dict[str, int],
  parent: Mapping[str, Any] | None,
) -> dict[str, Any]:
  """What the record says of the run beside its numbers."""
  config, dataset, objective = experiment.config, experiment.dataset, experiment.objective
  steps, costs = experiment.steps, experiment.costs
  examples = steps * config.training.batch_size
  epochs = examples / dataset.epoch if dataset.epoch else None
  if parent is not None and parent['data_hash'] == dataset.digest:
    epochs = parents.total(parent, 'epochs', epochs)
  validation = counters.validation
  return {
    'schema': 1,
    'objective': config.objective.name,
    'variant': config.variant,
    'settings': {k: v for k, v in config.objective.items() if k != 'name'},
    'settings_of_results': {name: configs.plain(config)[name] for name in RESULTS},
    'settings_of_data': {k: v for k, v in source(config).items() if k != 'name'},
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
    'clip_norm': config.optimizer.clip_norm if objective.trains else None,
    'input_scale': config.model.token_init,
    'parameters': sum(parameters.values()),
    'parameters_backbone': parameters['backbone'],
    'started_from': parents.text(parent),
    'init_from': parent,
    'train_flops': parents.total(parent, 'train_flops', steps * costs.flops),
    'flops_per_step': costs.flops if objective.trains else 0.0,
    'steps': steps,
    'tokens_seen': parents.total(parent, 'tokens_seen', steps * costs.tokens),
    'tokens_scored': parents.total(parent, 'tokens_scored', counters.tokens_scored),
    'epochs': epochs,
    'clipped_fraction': counters.clipped_steps / steps if steps else None,
    'wall_seconds': counters.wall_seconds,
    'workdir': workdir if is_remote(workdir) else os.path.abspath(workdir),
    'at_best': None,
  }


def write_record(
  workdir: str, record: dict[str, Any], arrays: dict[str, np.ndarray]
) -> dict[str, Any]:
  """Arrays first: a run.json means that everything is there.

  What can't be written, a number that is not finite above all, costs only itself: the record
  without it, as `runs.whole.without_failed` leaves it, is written and returned.
  """
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  write_atomically(os.path.join(workdir, 'arrays.npz'), buffer.getvalue())
  record = whole.without_failed(record, os.path.join(workdir, 'run.json'))
  text = json.dumps(record, indent=1, allow_nan=False)
  write_atomically(os.path.join(workdir, 'run.json'), text + '\n')
  return record


def read_arrays(workdir: str) -> dict[str, np.ndarray]:
  """The arrays saved with a finished run; UserError where they are damaged."""
  path = epath.Path(workdir, 'arrays.npz')
  try:
    with np.load(io.BytesIO(path.read_bytes())) as arrays:
      return dict(arrays)
  except reading.DAMAGED as error:
    raise UserError(
      f'{path} can not be read: {error}; with run.json moved away launch.train or launch.compare '
      'makes both again'
    ) from error


def to_tensorboard(
  experiment: Experiment, workdir: str, record: dict[str, Any], samples_NxT: np.ndarray | None
) -> None:
  """Final scalars, the layer curve, samples and the HParams row, in the place of earlier ones."""
  from reports import figures, figures_samples  # What draws takes half a second to load.

  step = record['steps']
  results = {'bits_per_dim': record['bits_per_dim'], 'token_accuracy': record.get('token_accuracy')}
  for labels, cell in record['probes'].get('linear', {}).items():
    results[f'probe/linear/{labels}_labels'] = cell['accuracy']
  for measure in headline():
    results[f'probe/{measure.name}'] = at(record['probes'], measure.path)
  results = {board.RESULT + name: value for name, value in results.items()}
  # Exact codes and bounds stand in one column of bits: this one tells them apart.
  settings = {
    'size': record['size'],
    'code': record['code'],
    'saw_labels': bool(record.get('saw_labels')),
  }
  settings |= _hyperparameters(experiment.config)
  with board.results(workdir) as shown:
    # Every run declares all metrics, also the bits of an objective that has none; values are
    # written only where they exist.
    shown.hyperparameters(settings, dict.fromkeys(results, 0.0))
    for name, value in results.items():
      if value is not None:
        shown.scalar(name, value, step)
    figure = figures.layer_curve(record)
    if figure is not None:
      shown.figure('probe/linear/accuracy_by_layer', figure, step)
    shape = experiment.dataset.shape
    if samples_NxT is not None and len(shape) == 2:
      grid = figures_samples.sample_grid(samples_NxT, shape, record['alphabet'])
      shown.picture('samples', grid, step)


def _hyperparameters(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Everything that can tell the runs of a sweep apart, under the same names in every run.

  TensorBoard takes its columns from whichever run it reads first, and objectives and data sets
  have fields of their own: those stand in one column each.
  """
  told = {'objective': config.objective.name, 'seed': config.training.seed}
  for section in ('objective', 'data'):
    own = [f'{name}={value}' for name, value in configs.fields(config[section]) if name != 'name']
    told[f'{section}.settings'] = ', '.join(own)
  told['data'] = config.data.name
  for section in ('model', 'optimizer', 'training'):
    told |= {f'{section}.{name}': value for name, value in configs.fields(config[section])}
  return told


def named(record: dict) -> str:
  """A run by its objective, variant and seed."""
  words = (record['objective'], record.get('variant'), f'seed {record["seed"]}')
  return ' '.join(filter(None, words))


def summary(record: dict) -> str:
  """One line on a finished run."""
  if record['bits_per_dim'] is None:
    bits, validation = 'bits/dim n/a', record.get('validation') or {}
    if validation.get('loss') is not None:
      bits += f'; validation loss {validation["loss"]:.3f} {record.get("loss_unit") or ""}'.rstrip()
  else:
    bits = f'{numbers.bits_text(record["bits_per_dim"], record["code"])} bits/dim'
    if record['bits_per_dim_stderr'] is not None:
      bits += f' ± {record["bits_per_dim_stderr"]:.3f}'
  line = f'{named(record)}: {bits}'
  cells = record['probes'].get('linear', {})
  if cells:
    shown = ', '.join(f'{100 * c["accuracy"]:.1f} % ({n} labels)' for n, c in cells.items())
    line += f'; linear probe {shown}'
  line += ''.join(f'; {text}' for text in wording.left_out_lines(record['probes'], ('linear',)))
  for name, why in record.get('probes_failed', {}).items():
    line += f'; probe {name} FAILED: {why}'
  return line
