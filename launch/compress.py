r"""A lossless compressor: a trained autoregressive run, or a network that learns as it decodes.

python -m launch.compress --run=RUN export test test.npy
python -m launch.compress --run=RUN encode test.npy test.bpc
python -m launch.compress --run=RUN decode test.bpc again.npy
python -m launch.compress --run=RUN verify test.npy
python -m launch.compress --mode=prequential --config=experiments/digits.py encode IN.npy OUT
python -m launch.compress --mode=prequential decode IN OUT.npy

IN is a NumPy file of examples of the run's data set (tokens, any integer dtype), or any file where
the run's data are bytes of a file. `verify` takes either: what it can decode it decodes and checks,
anything else it encodes, decodes and compares. `codes.container` describes the stream.
"""

from collections.abc import Sequence
import contextlib
import functools
import os
import tempfile

from absl import flags

from launch import entry
from runs.errors import UserError

_COMMANDS = {'encode': 2, 'decode': 2, 'verify': 1, 'export': 2}


def main(argv: Sequence[str], overrides: Sequence[str]) -> None:
  command, paths = _parse(argv, overrides)
  from training import preemption

  preemption.end_at_once()
  from codes import container

  try:
    globals()[f'_{command}'](*paths, overrides)
  except container.StreamError as error:
    raise UserError(f'{paths[0]}: {error}') from error


def _parse(argv: Sequence[str], overrides: Sequence[str]) -> tuple[str, Sequence[str]]:
  """The command and its files, or UserError."""
  usage = 'encode IN OUT, decode IN OUT, verify IN, or export SPLIT OUT'
  if len(argv) < 2 or argv[1] not in _COMMANDS:
    raise UserError(f'what to do is missing: {usage}' if len(argv) < 2 else
                    f"'{argv[1]}' is unknown: {usage}")  # fmt: skip
  command, paths = argv[1], argv[2:]
  if len(paths) != _COMMANDS[command]:
    raise UserError(f'{command} takes {_COMMANDS[command]} arguments, not {len(paths)}: {usage}')
  prequential = flags.FLAGS.mode == 'prequential'
  if prequential and flags.FLAGS.run:
    raise UserError('--mode=prequential ships no weights: it takes --config, not --run')
  if not prequential and not flags.FLAGS.run:
    raise UserError('--run=DIR (a finished run) is needed')
  if not prequential and (flags.FLAGS.config or overrides):
    raise UserError('--config is for --mode=prequential; a run has its own')
  if prequential and command in ('encode', 'export') and not flags.FLAGS.config:
    raise UserError(f'--mode=prequential {command} needs --config')
  if flags.FLAGS.batch is not None and not 1 <= flags.FLAGS.batch < 2**32:
    raise UserError(f'--batch must be at least 1, not {flags.FLAGS.batch}')
  if command != 'verify' and os.path.exists(paths[1]) and not flags.FLAGS.force:
    raise UserError(f'{paths[1]} exists; --force overwrites it')
  if command != 'export' and not os.path.isfile(paths[0]):
    raise UserError(f'{paths[0]} is not a file')
  return command, paths


def _encode(source_path: str, out_path: str, overrides: Sequence[str]) -> None:
  with _replacing(out_path) as out:
    lines = _write(source_path, out, overrides)
  print('\n'.join(lines))


def _decode(stream_path: str, out_path: str, overrides: Sequence[str]) -> None:
  with open(stream_path, 'rb') as file:
    with _replacing(out_path) as out:
      total = _read(file, out)
  print(f'{out_path}: {total:,} symbols, checked')


def _verify(path: str, overrides: Sequence[str]) -> None:
  from codes import container

  with open(path, 'rb') as file:
    if file.read(len(container.MAGIC)) == container.MAGIC:
      file.seek(0)
      with open(os.devnull, 'wb') as nowhere:
        print(f'{path}: whole; {_read(file, nowhere):,} symbols decoded and checked')
      return
  if flags.FLAGS.mode == 'prequential' and not flags.FLAGS.config:
    raise UserError('--mode=prequential verify of a file that is not coded needs --config')
  directory = os.path.dirname(os.path.abspath(path))
  with (
    tempfile.TemporaryFile(dir=directory) as coded,
    tempfile.NamedTemporaryFile(dir=directory, suffix=os.path.splitext(path)[1]) as again,
  ):
    lines = _write(path, coded, overrides)
    coded.seek(0)
    _read(coded, again)
    again.flush()
    _compare(path, again.name)
  print('\n'.join(lines))
  print(f'{path}: decoded again, equal')


def _export(split: str, out_path: str, overrides: Sequence[str]) -> None:
  import numpy as np

  from data import text
  from data.dataset import Examples
  from runs import configs, experiment

  if split not in ('train', 'validation', 'test'):
    raise UserError(f"split '{split}' is unknown; known: train, validation, test")
  if flags.FLAGS.run:
    config = configs.from_plain(configs.read_saved(flags.FLAGS.run)['config'])
  else:
    config = _config(overrides)
  dataset, _ = experiment.load_datasets(config, flags.FLAGS.data_dir)
  examples = getattr(dataset, split)
  if not isinstance(examples, Examples):
    raise UserError(f"'{dataset.name}' has no fixed {split} split: it is drawn afresh for ever")
  tokens = examples.tokens_NxT[:, : dataset.dims]
  shape = dataset.shape if np.prod(dataset.shape) == dataset.dims else (dataset.dims,)
  dtype = np.uint8 if dataset.vocabulary <= 256 else np.uint16
  with _replacing(out_path) as out:
    if text.is_text(config.data):
      out.write(tokens.astype(np.uint8).tobytes())
    else:
      np.save(out, tokens.reshape(-1, *shape).astype(dtype))
  print(f'{out_path}: {len(tokens):,} examples; {dataset.note}')


def _config(overrides: Sequence[str]):
  """The config of --config; without an objective it is read with the one that can decode."""
  from runs import configs

  path, _, objective = flags.FLAGS.config.partition(':')
  return configs.load(path, objective or 'autoregressive', overrides)


@contextlib.contextmanager
def _replacing(path: str):
  """A file that takes the place of `path` once it is whole; on failure nothing is left."""
  partial = f'{path}.partial'
  try:
    with open(partial, 'w+b') as out:
      yield out
    os.replace(partial, path)
  finally:
    with contextlib.suppress(OSError):
      os.unlink(partial)


def _write(path: str, out, overrides: Sequence[str]) -> list[str]:
  """Encodes a file; returns what to say of it."""
  from codes import codec, container, files
  from data import text

  predictor_of, built = _encoder(overrides)
  space, windows = built.space, text.is_text(built.config.data)
  source, fields = files.source(path, space, windows)
  examples = codec.count_examples(source.total, space.dims)
  try:
    predictor = predictor_of(examples)
    total = source.total if fields['kind'] == container.BYTES else examples
    header = container.Header(total=total, **fields, **predictor.claims())
    with _bar('encode', source.total) as bar:
      sizes = codec.encode(predictor, source, header, out, bar.update)
  except ValueError as error:
    if isinstance(error, UserError):
      raise
    raise UserError(f'{path}: {error}') from error
  lines = files.describe(path, space, windows, sizes)
  if flags.FLAGS.mode == 'prequential':
    from codes import prequential

    bits, modules = prequential.program_bits()
    lines.append(
      f'program       {bits / 8:12,.0f} bytes: {modules} modules without comments, xz -9e; '
      f'with it K(X) ≤ {8 * sizes.file_bytes + bits:,} bits given Python and its libraries'
    )
  else:
    lines.append(f'not counted   the weights: {_parameters(predictor):,} parameters of 32 bits')
  return lines


def _parameters(predictor) -> int:
  import jax

  return sum(leaf.size for leaf in jax.tree.leaves(predictor.params))


def _encoder(overrides: Sequence[str]):
  """(examples -> predictor, the experiment)."""
  from codes import codec, prequential
  from runs import experiment, trained

  if flags.FLAGS.mode == 'network':
    built, reading, params = trained.load(
      flags.FLAGS.run, flags.FLAGS.data_dir, flags.FLAGS.checkpoint == 'best'
    )

    def make(examples: int) -> codec.Trained:
      return codec.Trained(reading, params, flags.FLAGS.batch or codec.default_batch(examples))

    return make, built
  config = _config(overrides)
  built = experiment.build(config, flags.FLAGS.data_dir)
  schedule = {
    'chunk': flags.FLAGS.chunk,
    'updates': flags.FLAGS.updates,
    'batch': config.training.batch_size,
    'replay': flags.FLAGS.replay,
    'seed': config.training.seed,
  }
  settings = prequential.describe(built.model, config, built.space, schedule)
  return lambda examples: prequential.Prequential(settings, examples), built


def _read(file, out) -> int:
  """Decodes a stream into a file; returns the number of symbols."""
  from codes import codec, container, files, prequential
  from runs import trained

  header, seal = container.read_header(file)
  if header.mode == container.NETWORK:
    if flags.FLAGS.mode != 'network':
      raise container.StreamError('encoded by a trained network: --run=DIR names it')
    _, reading, params = trained.load(
      flags.FLAGS.run, flags.FLAGS.data_dir, flags.FLAGS.checkpoint == 'best'
    )
    files.check_shape(header, reading.dims)
    predictor, dims = codec.Trained(reading, params, header.batch), reading.dims
  else:
    if flags.FLAGS.mode != 'prequential':
      raise container.StreamError('encoded without a trained network: --mode=prequential')
    dims = prequential.dims_of(header)
    files.check_shape(header, dims)
    predictor = prequential.from_header(header, files.examples(header, dims))
  predictor.check(header)
  total = files.symbols(header, dims)
  with _bar('decode', total) as bar:
    files.write(header, codec.decode(predictor, total, file, seal, bar.update), out)
  return total


def _bar(name: str, total: int):
  import tqdm

  return tqdm.tqdm(
    total=total, desc=name, unit='symbol', unit_scale=True, leave=False, disable=None
  )


def _compare(path: str, again: str) -> None:
  """UserError unless two files hold the same: arrays by value, shape and dtype, others by byte."""
  from codes import files

  if not files.same(path, again):
    raise UserError(f'{path} was decoded to something else')


def define_flags(values: flags.FlagValues = flags.FLAGS) -> None:
  text = functools.partial(flags.DEFINE_string, flag_values=values)
  whole = functools.partial(flags.DEFINE_integer, flag_values=values)
  one_of = functools.partial(flags.DEFINE_enum, flag_values=values)
  switch = functools.partial(flags.DEFINE_bool, flag_values=values)
  text('run', None, 'Directory of a finished autoregressive run.')
  one_of('checkpoint', 'last', ['last', 'best'], 'The headline, or the best on validation.')
  one_of('mode', 'network', ['network', 'prequential'], 'A trained run, or train while decoding.')
  text('config', None, 'Prequential: config of the network that learns, and of its data.')
  text('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  whole('batch', None, 'Examples computed at a time; default: up to 256, by their number.')
  whole('chunk', 16, 'Prequential: examples coded between trainings.')
  whole('updates', 10, 'Prequential: updates of a training.')
  switch('replay', True, 'Prequential: train on all examples so far, not only on the last chunk.')
  switch('force', False, 'Overwrite OUT.')


if __name__ == '__main__':
  define_flags()
  entry.run(main, takes_config=True)
