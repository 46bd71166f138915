"""Programs compiled for TPU slices that are not there; libtpu lives in processes of its own."""

import importlib.util
import json
import os
import subprocess
import sys

import pytest

from data import descriptions, sources
from experiments import (
  cifar10,
  digits,
  fashion_mnist,
  hierarchy,
  igpt_l,
  noise,
  structured_noise,
  text_file,
)

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONFIG = '--config=experiments/digits.py:masked_diffusion'

needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec('libtpu') is None,
  reason="libtpu is not installed: pip install -e '.[aot]'",
)


def _aot(*arguments: str) -> tuple[int, str, str]:
  done = subprocess.run(
    [sys.executable, '-m', 'launch.aot', *arguments],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  if "libtpu can't be loaded" in done.stderr:
    pytest.skip(done.stderr.strip().splitlines()[-1])
  return done.returncode, done.stdout, done.stderr


@needs_libtpu
def test_nano_on_a_slice_of_eight(tmp_path):
  out = str(tmp_path / 'aot.json')
  code, text, error = _aot(
    CONFIG, '--topology=v5e:2x4', f'--out={out}', '--config.training.batch_size=30'
  )
  assert code == 0, error
  assert "batch 32 instead of the config's 30" in text and 'never measured' in text
  with open(out, encoding='utf-8') as file:
    report = json.load(file)
  step = report['train_step']
  assert step['compile_seconds'] > 0 and report['feature_step']['compile_seconds'] > 0
  assert (report['chips'], report['batch_size']) == (8, 32)
  # 6 N_matmul T + 12 L T^2 D a sequence: N = 4 * 12 * 64^2 + 64 * 17.
  matmul = 4 * 12 * 64**2 + 64 * 17
  assert report['flops_a_step'] == 32 * (6 * matmul * 64 + 12 * 4 * 64**2 * 64)
  # The matrices of the blocks are sharded, all other leaves are too small.
  sharded = 4 * 12 * 64**2
  assert report['fsdp_minimum_bytes'] == pytest.approx(7 / 8 * sharded * 12)
  # Parameters and Adam's two moments: an eighth of the sharded ones, the rest whole, and
  # padding to whole tiles. Were nothing sharded, it would be 6.4 times that.
  share = 3 * 4 * (sharded / 8 + report['parameters'] - sharded)
  assert share < step['memory']['arguments'] < 3 * share
  assert step['collective_bytes']['reduce-scatter'] == pytest.approx(7 / 8 * sharded * 4)
  sent = sum(step['collective_bytes'].values()) - report['replicated_gradient_bytes']
  assert 0 < sent < 1.25 * report['fsdp_minimum_bytes']


@needs_libtpu
def test_the_probe_of_a_large_set(tmp_path):
  out = str(tmp_path / 'aot.json')
  code, text, error = _aot(
    CONFIG, '--topology=v5e:2x4', '--what=probe', '--rows=100001', f'--out={out}'
  )
  assert code == 0, error
  assert 'float32, compensated sums' in text and 'never measured' in text
  with open(out, encoding='utf-8') as file:
    report = json.load(file)
  assert (report['layers_a_group'], report['l2_together']) == (5, 6)
  # Five layers under two poolings of 12,501 rows a chip.
  assert report['features_bytes'] == 4 * 5 * 2 * 12_501 * 64
  programs = report['programs']
  for name in ('gradient', 'iteration'):
    # The gradient of 6 penalties x 10 classes, reduced once: 7/8 of it sent there and back.
    sent = 2 * 7 / 8 * 4 * 6 * 10 * 65
    assert sent <= sum(programs[name]['collective_bytes'].values()) < 1.2 * sent
    assert programs[name]['floor_seconds']['compute'] == pytest.approx(
      6 * 4 * 100_001 * 64 * 6 * 10 / 8 / 197e12
    )
  # 13 rows a chip where 100 are asked for.
  assert programs['feature pass']['runs'] == -(-100_001 // 104)
  assert all(program['peak_bytes'] > 0 for program in programs.values())


@needs_libtpu
def test_what_does_not_fit_is_refused_with_the_numbers():
  code, _, error = _aot(
    CONFIG,
    '--topology=v5e:2x4',
    '--config.model.width=16384',
    '--config.model.layers=40',
    '--config.model.heads=1',
  )
  line = error.strip().splitlines()[-1]
  assert code == 2 and line.startswith('aot: the training step of L40D16384H1 does not fit')
  assert '16 GiB a chip' in line and 'model.remat=True' in line and 'more chips' in line


def test_mistakes_are_one_line():
  for arguments, message in (
    (['--topology=v5e:2x4'], '--config is needed'),
    ([CONFIG], '--topology is needed'),
    ([CONFIG, '--topology=v7:2x4'], "unknown topology 'v7:2x4'"),
    ([CONFIG, '--topology=v5e:2x4', '--config.data.name=other'], 'give --vocabulary=V'),
    ([CONFIG, '--topology=v5e:2x4', '--what=probe'], 'are given together'),
    ([CONFIG, '--topology=v5e:2x4', '--rows=9'], 'are given together'),
  ):
    code, _, error = _aot(*arguments)
    assert code == 2 and message in error and 'Traceback' not in error


@pytest.mark.parametrize('config', [digits, noise, structured_noise, hierarchy])
def test_descriptions_are_what_loading_gives(config, data_dir):
  asked = config.get_config().data
  described, loaded = descriptions.describe(asked), sources.load(asked, data_dir)
  for name, value in vars(described).items():
    assert value == getattr(loaded, name), name


def test_descriptions_of_sets_that_are_not_here():
  def describe(config):
    return tuple(vars(descriptions.describe(config.get_config().data)).values())

  assert describe(igpt_l) == (512, 1024, 1024, 1000, False, ())
  assert describe(fashion_mnist) == (16, 196, 196, 10, True, (14, 14))
  assert describe(cifar10) == (512, 1024, 1024, 10, False, ())
  assert describe(text_file) == (256, 256, 256, None, False, ())
