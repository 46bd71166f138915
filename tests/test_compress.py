"""launch.compress as a user meets it: two processes, real files, one-line errors."""

import dataclasses
import json
import math
import os
import pathlib
import subprocess
import sys
import time

from absl import flags
import numpy as np
import pytest
import tiny

from codes import container, files
from codes.errors import CodeError
from launch import compress, entry
import objectives
from reports import codes_text
from runs import configs, experiment, run
from runs.errors import UserError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


# Objectives of which there is no file, and why.
_SILENT = {
  'denoising': 'it has no likelihood',
  'gaussian_diffusion': 'its bound is the length of a code with bits back alone: an example takes',
  'uniform_diffusion': 'its bound is the length of a code with bits back alone: an example takes',
}


@pytest.fixture(scope='module')
def runs(data_dir, tmp_path_factory):
  """Finished tiny runs: of images, of the same by another objective, and of bytes."""
  top = tmp_path_factory.mktemp('runs')
  text = bytes(np.random.default_rng(0).choice([97, 98, 99, 10], 4000).astype(np.uint8))
  (top / 'text').write_bytes(text)
  made = {name: str(top / name) for name in ('autoregressive', 'bytes', *_SILENT)}
  config = tiny.config('autoregressive')
  run.execute(experiment.build(config, data_dir), made['autoregressive'])
  # Nothing is read of these but what they say of themselves.
  for name in _SILENT:
    os.mkdir(made[name])
    config = {'config': configs.plain(tiny.config(name))}
    (top / name / 'config.json').write_text(json.dumps(config))
    record = {**configs.read_record(made['autoregressive']), 'objective': name}
    (top / name / 'run.json').write_text(json.dumps(record))
  config = tiny.config('autoregressive')
  with config.unlocked():
    config.data = {
      'name': 'text_file', 'path': str(top / 'text'), 'length': 16, 'validation': 0.2, 'test': 0.2
    }  # fmt: skip
  run.execute(experiment.build(config, data_dir), made['bytes'])
  return made


@pytest.fixture
def call(capsys, monkeypatch):
  """call(*arguments) -> what launch.compress prints, in this process."""

  def run_main(*arguments):
    argv, overrides = entry.config_overrides(['compress', *arguments])
    values = flags.FlagValues()
    compress.define_flags(values)
    monkeypatch.setattr(compress.flags, 'FLAGS', values)
    compress.main(values(argv), overrides)
    return capsys.readouterr().out

  return run_main


def _compress(*arguments):
  done = subprocess.run(
    [sys.executable, '-m', 'launch.compress', *arguments],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': ROOT},
    capture_output=True,
    text=True,
    timeout=240,
  )
  return done.returncode, done.stdout, done.stderr


def test_images_come_back_in_another_process(runs, data_dir, tmp_path, call):
  where = (f'--run={runs["autoregressive"]}', f'--data_dir={data_dir}')
  images, coded, again = (str(tmp_path / name) for name in ('test.npy', 'test.bpc', 'again.npy'))
  call(*where, 'export', 'test', images)
  exported = np.load(images)
  assert exported.shape == (300, 8, 8) and exported.dtype == np.uint8
  code, out, err = _compress(*where, 'encode', images, coded)
  assert code == 0, err
  assert f'{os.path.getsize(coded):,} bytes' in out
  # The run's own bits per dimension, of the same images, by whole forward passes.
  record = configs.read_record(runs['autoregressive'])
  ideal = float(out.split('ideal')[1].split('bytes')[1].split()[0])
  assert ideal == pytest.approx(record['bits_per_dim'], abs=1e-4)
  payload = float(out.split('\ncode')[1].split('bytes')[1].split()[0])
  assert payload <= 1.001 * ideal + 64 / exported.size
  assert '19,200 symbols, checked' in call(*where, 'decode', coded, again)
  found = np.load(again)
  np.testing.assert_array_equal(found, exported)
  assert found.dtype == exported.dtype

  with pytest.raises(UserError, match='exists; --force overwrites it'):
    call(*where, 'decode', coded, again)
  damaged = bytearray(open(coded, 'rb').read())
  damaged[len(damaged) // 2] ^= 1
  (tmp_path / 'damaged').write_bytes(bytes(damaged))
  # A header, with its own check right, that asks for 65,536 examples at a time.
  with open(coded, 'rb') as file:
    header = dataclasses.replace(container.Reader(file).header, batch=2**16)
  with open(tmp_path / 'large', 'wb') as file:
    writer = container.Writer(file, header)
    writer.frame(300, bytes(8), bytes(4))
    writer.end()
  with pytest.raises(UserError, match='asks for too much: at most 8,192 examples'):
    call(*where, 'decode', str(tmp_path / 'large'), str(tmp_path / 'out.npy'))
  code, _, err = _compress(*where, 'decode', str(tmp_path / 'damaged'), str(tmp_path / 'out.npy'))
  assert (
    code == 2 and 'damaged: frame 0 is damaged or of another file' in err and err.count('\n') == 1
  )
  assert not [name for name in os.listdir(tmp_path) if name.startswith('out.npy')]
  with pytest.raises(UserError, match='this network knows 16 tokens'):
    call(f'--run={runs["bytes"]}', 'decode', coded, str(tmp_path / 'out.npy'))


def test_any_file_comes_back_from_a_model_of_bytes(runs, tmp_path, call):
  where = f'--run={runs["bytes"]}'
  source, coded, again = (str(tmp_path / name) for name in ('in.bin', 'coded', 'out.bin'))
  content = np.random.default_rng(1).bytes(1003)
  (tmp_path / 'in.bin').write_bytes(content)
  call(where, 'encode', source, coded)
  call(where, 'decode', coded, again)
  assert (tmp_path / 'out.bin').read_bytes() == content
  (tmp_path / 'empty').write_bytes(b'')
  assert 'decoded again, equal' in call(where, 'verify', str(tmp_path / 'empty'))
  assert '1,003 symbols decoded and checked' in call(where, 'verify', coded)
  call(where, 'export', 'test', str(tmp_path / 'test'))
  text = (pathlib.Path(runs['bytes']).parent / 'text').read_bytes()
  assert (tmp_path / 'test').read_bytes() == text[3200:]


def test_colours_of_256_values_are_examples_and_not_the_bytes_of_their_file(tmp_path):
  """They have no `shape`, like windows of a file; a header of 128 bytes would shift the colours."""
  images = np.random.default_rng(0).integers(0, 256, (2, 4, 1, 3), np.uint8)
  path = str(tmp_path / 'images.npy')
  np.save(path, images)
  space = objectives.Space(256, 12, 12)
  source, fields = files.source(path, space, windows=False)
  assert fields['kind'] == container.ARRAY and source.total == 24
  np.testing.assert_array_equal(source.read(12, 24), images[1].reshape(-1))
  source, fields = files.source(path, space, windows=True)
  assert fields == {'kind': container.BYTES, 'total': source.total}
  assert source.total == os.path.getsize(path)


def test_sigterm_ends_it_at_once_and_leaves_nothing(runs, tmp_path):
  with open(tmp_path / 'in', 'wb') as file:
    file.truncate(50_000_000)  # Minutes of work: it doesn't end before it is told to.
  process = subprocess.Popen(
    [sys.executable, '-m', 'launch.compress', f'--run={runs["bytes"]}', 'encode',
     str(tmp_path / 'in'), str(tmp_path / 'out')],
    cwd=ROOT, env={**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': ROOT},
    stderr=subprocess.PIPE, text=True,
  )  # fmt: skip
  partial = tmp_path / 'out.partial'
  for _ in range(1200):
    if partial.exists() and partial.stat().st_size:
      break
    time.sleep(0.05)
  process.terminate()
  try:
    _, err = process.communicate(timeout=60)
  finally:
    process.kill()
  assert (process.returncode, err) == (143, 'compress: stopped on request; nothing was kept\n')
  assert os.listdir(tmp_path) == ['in']


def test_the_prequential_mode_needs_no_run(data_dir, tmp_path, call):
  images, coded, again = (str(tmp_path / name) for name in ('in.npy', 'coded', 'out.npy'))
  np.save(images, np.random.default_rng(0).integers(0, 17, (40, 64)).astype(np.int64))
  out = call(
    '--mode=prequential', '--chunk=16', '--updates=2', '--learning_rates=1e-3,4e-3',
    '--config=experiments/digits.py',
    f'--data_dir={data_dir}', *tiny.OVERRIDES[:3], 'encode', images, coded,
  )  # fmt: skip
  # Noise of 2,560 values of 17: the program that learns is dearer than raw digits.
  bound = int(out.split('K(X) ≤ ')[1].split(' bits')[0].replace(',', ''))
  assert 2560 * math.log2(17) < bound < 2560 * math.log2(17) + 2000
  assert 'by raw digits, which are shorter, on the machine of Python' in out
  code, _, err = _compress('--mode=prequential', 'decode', coded, again)
  assert code == 0, err
  np.testing.assert_array_equal(np.load(again), np.load(images))
  assert np.load(again).dtype == np.int64
  with pytest.raises(UserError, match='encoded without a trained network: --mode=prequential'):
    call('--run=nowhere', '--force', 'decode', coded, again)


@pytest.mark.parametrize('name', ['masked_diffusion', 'block_diffusion', 'masked'])
def test_networks_that_fill_in_code_in_any_order(data_dir, tmp_path, call, name):
  workdir = str(tmp_path / 'run')
  run.execute(experiment.build(tiny.config(name), data_dir), workdir)
  images, coded = str(tmp_path / 'in.npy'), str(tmp_path / 'coded')
  np.save(images, np.random.default_rng(0).integers(0, 17, (20, 8, 8)).astype(np.uint8))
  where = (f'--run={workdir}', f'--data_dir={data_dir}')
  ways = ((), ('--order=raster',), ('--steps=20',)) if name != 'masked' else ((),)
  for order in ways:
    out = call(*where, *order, 'verify', images)
    assert 'decoded again, equal' in out
    if order == ('--steps=20',):
      assert (
        'steps         20 passes an example: ' in out and ' bits an example are the price' in out
      )
  if name == 'block_diffusion':
    code, _, err = _compress(*where, 'encode', images, coded)
    assert code == 0, err
    assert '1,280 symbols, checked' in call(*where, 'decode', coded, str(tmp_path / 'out.npy'))
    with pytest.raises(UserError, match='from 16 to 64 steps decide 64 symbols, not 4'):
      call(*where, '--steps=4', 'verify', images)


def test_a_run_goes_on_learning(runs, data_dir, tmp_path, call):
  images, coded, again = (str(tmp_path / name) for name in ('in.npy', 'coded', 'out.npy'))
  np.save(images, np.random.default_rng(0).integers(0, 3, (40, 8, 8)).astype(np.uint8))
  where = (f'--run={runs["autoregressive"]}', f'--data_dir={data_dir}')
  how = ('--mode=adaptive', '--chunk=16', '--updates=2', '--learning_rates=1e-3', '--nocounts')
  out = call(*where, *how, 'encode', images, coded)
  assert 'network 1 (as it is) ' in out and 'network 2 (2 updates at 0.001) ' in out
  assert 'not counted   the weights' in out
  code, _, err = _compress(*where, '--mode=adaptive', 'decode', coded, again)
  assert code == 0, err
  np.testing.assert_array_equal(np.load(again), np.load(images))
  with pytest.raises(UserError, match='encoded by a trained network: --run=DIR'):
    call('--mode=prequential', '--force', 'decode', coded, again)
  text = str(tmp_path / 'text')
  (tmp_path / 'text').write_bytes(b'abcabc\n' * 40)
  small = (f'--run={runs["bytes"]}', '--mode=adaptive', '--updates=1', f'--data_dir={data_dir}')
  assert 'decoded again, equal' in call(*small, 'verify', text)


def test_counting_codes_images_and_any_file(data_dir, tmp_path, call):
  images, coded, again = (str(tmp_path / name) for name in ('in.npy', 'coded', 'out.npy'))
  np.save(images, np.random.default_rng(0).integers(0, 17, (40, 8, 8)).astype(np.uint8))
  where = ('--mode=counting', '--config=experiments/digits.py', f'--data_dir={data_dir}')
  call(*where, 'encode', images, coded)
  assert '2,560 symbols, checked' in call('--mode=counting', 'decode', coded, again)
  assert (tmp_path / 'in.npy').read_bytes() == (tmp_path / 'out.npy').read_bytes()
  (tmp_path / 'text').write_bytes(b'to be or not to be, ' * 450 + b'that is')
  text = ('--config=experiments/text_file.py', f'--config.data.path={tmp_path}/text')
  made = call('--mode=counting', *text, 'encode', str(tmp_path / 'text'), str(tmp_path / 'short'))
  assert '9,007 symbols' in made and os.path.getsize(tmp_path / 'short') < 900
  call('--mode=counting', 'decode', str(tmp_path / 'short'), str(tmp_path / 'again'))
  assert (tmp_path / 'again').read_bytes() == (tmp_path / 'text').read_bytes()


def _mistakes(runs, path):
  image_run = f'--run={runs["autoregressive"]}'
  np.save(path / 'wide.npy', np.zeros((3, 9, 9), np.uint8))
  np.save(path / 'high.npy', np.full((3, 8, 8), 17, np.uint8))
  np.save(path / 'real.npy', np.zeros((3, 8, 8)))
  (path / 'text.npy').write_text('hello')
  (path / 'zip.npy').write_bytes(b'PK\3\4 and no more')
  np.savez(path / 'several.npz', np.zeros((3, 8, 8), np.uint8))
  os.rename(path / 'several.npz', path / 'several.npy')
  header = {'descr': '|u1', 'fortran_order': False, 'shape': (10**12, 8, 8)}
  with open(path / 'huge.npy', 'wb') as file:
    np.lib.format.write_array_header_1_0(file, header)
  names = ('wide', 'high', 'real', 'text', 'zip', 'several', 'huge')
  made = {name: str(path / f'{name}.npy') for name in names}
  out = str(path / 'out')
  return [
    ((image_run, 'encode', made['wide'], out), 'has shape (3, 9, 9); the run knows N examples'),
    ((image_run, 'encode', made['high'], out), 'has the value 17 at place 0; this network knows'),
    ((image_run, 'encode', made['real'], out), 'an array of float64 can not be coded'),
    ((image_run, 'encode', made['text'], out), 'is not a NumPy file (.npy) of examples'),
    ((image_run, 'encode', made['zip'], out), 'is not a NumPy file (.npy) of examples'),
    ((image_run, 'encode', made['several'], out), 'it holds several arrays'),
    ((image_run, 'encode', made['huge'], out), 'its header claims 64,000,000,000,000 bytes'),
    ((image_run, 'decode', made['text'], out), 'not a file that launch.compress wrote'),
    ((image_run, 'decode', str(path / 'absent'), out), 'is not a file'),
    ((image_run, 'squeeze', out), "'squeeze' is unknown: encode IN OUT"),
    ((image_run, 'encode', out), 'encode takes 2 arguments, not 1'),
    *(((f'--run={runs[k]}', 'encode', made['high'], out), v) for k, v in _SILENT.items()),
    ((image_run, '--steps=4', 'encode', made['high'], out), '--steps is for a run that fills in'),
    ((image_run, '--mode=adaptive', '--steps=4', 'verify', made['high']), '--steps does nothing'),
    ((image_run, '--updates=4', 'verify', made['high']), '--updates does nothing with --mode=netw'),
    ((image_run, '--batch=9000', 'encode', made['high'], out), 'at most 8,192 examples can be'),
    (('--mode=counting', '--seeds=2', 'verify', made['high']), '--seeds does nothing with --mode'),
    ((f'--run={path}', 'encode', made['high'], out), 'is not a run directory'),
    (('encode', made['high'], out), '--run=DIR (a finished run) is needed'),
  ]


def test_mistakes_are_one_line(runs, data_dir, tmp_path, call):
  for arguments, message in _mistakes(runs, tmp_path):
    with pytest.raises((UserError, CodeError)) as caught:
      call(f'--data_dir={data_dir}', *arguments)
    assert message in ' '.join(str(caught.value).split()), arguments
    assert not (tmp_path / 'out').exists() and not (tmp_path / 'out.partial').exists()


@pytest.mark.parametrize('program, bound', [(1000, 9000), (4000, 11_000)])
def test_no_description_is_longer_than_raw_digits(program, bound):
  """8,000 bits of a file and a program, beside 10,000 of digits and 1,000 of their driver."""
  made = {
    'path': 'x', 'symbols': 100, 'vocabulary': 4, 'windows': False, 'raw_bytes': 9,
    'file_bytes': 1000, 'payload_bits': 7900, 'ideal_bits': 7890.0,
    'program': {'bits': program, 'modules': 3, 'packages': ('numpy',)},
    'raw': {'file_bits': 10_000, 'program_bits': 1000, 'packages': ()},
  }  # fmt: skip
  last = codes_text.compressed(made).splitlines()[-1]
  assert f'K(X) ≤ {bound:,} bits' in last
  assert last.endswith('Python' if bound == 11_000 else 'Python, numpy')
