"""Fits that every process could make are made by the first of them, for all."""

import dataclasses
import json
import os
import socket
import subprocess
import sys

import pytest
from test_mesh_probe import clusters, on_mesh

from experiments import base
from probes import logistic, suite
from training.once import once

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HOST = ('linear', 'knn', 'prequential', 'pac')


def settings():
  config = base.get_base('untrained').probe
  config.linear.update({'labels': (8,), 'draws': 2, 'folds': 3, 'l2': (1e-2, 1.0)})
  config.linear.update({'few_l2': (1e-2, 1.0)})
  config.knn.update({'labels': (8,), 'draws': 2})
  config.prequential.update({'orders': 1, 'l2': (1.0,)})
  config.prequential.mlp = None
  config.pac.update({'l2': (1.0,)})
  return config


def probed(number=None):
  """Results of features in arrays and on the mesh, and how often this process fits."""
  fits, fit = [], logistic.fit

  def counted(*arguments, **how):
    fits.append(number)
    return fit(*arguments, **how)

  logistic.fit = counted
  try:
    found = [
      suite.run(dataclasses.replace(features, once=once), settings(), 0, names)[0]
      for features, names in ((clusters(), HOST), (on_mesh(clusters())[0], ('linear',)))
    ]
  finally:
    logistic.fit = fit
  return json.loads(json.dumps(found)), len(fits)


PROGRAM = """
import json, os, signal, sys, time
from training import distributed, preemption
from training.errors import Preempted
preemption.install()
number, address, out = int(sys.argv[1]), *sys.argv[2:]
distributed.initialize('explicit', address, 2, number, 60)
from test_once import once, probed

said = []
for error in (ValueError('what it says'), KeyError('other')):
  def fail():
    raise error
  try:
    once(fail)
  except Exception as raised:
    said.append(f'{type(raised).__name__}: {raised}')
arrays = once(lambda: {'of': [number], 'large': b'x' * 100_001})
said += [arrays['of'], len(arrays['large'])]
found, fits = probed(number)
with open(f'{out}.{number}', 'w') as file:
  json.dump({'said': said, 'found': found, 'fits': fits}, file)

def long():
  os.kill(os.getpid(), signal.SIGTERM)
  time.sleep(300)

try:
  once(long)
except Preempted as stop:
  print(stop.alone, stop)
distributed.finish()
"""


@pytest.fixture(scope='module', name='both')
def two_processes(tmp_path_factory):
  """What each of two processes has found, and what they printed."""
  out = str(tmp_path_factory.mktemp('once') / 'found')
  path = os.pathsep.join((ROOT, os.path.join(ROOT, 'tests')))
  environment = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'PYTHONPATH': path}
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  group = [
    subprocess.Popen(
      [sys.executable, '-c', PROGRAM, str(i), address, out],
      cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    for i in range(2)
  ]  # fmt: skip
  printed = []
  for process in group:
    text, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    printed.append(text)
  return [json.load(open(f'{out}.{i}')) for i in range(2)], printed


def test_one_process_fits_and_both_have_it(both):
  first, second = both[0]
  assert second['fits'] == 0 < first['fits']
  assert first['found'] == second['found']
  alone, fits = probed()
  assert fits == first['fits']
  assert first['found'][0] == alone[0]
  # Of all labels the fit is one of the mesh, with sums of two devices.
  assert first['found'][1]['linear']['8'] == alone[1]['linear']['8']


def test_what_goes_wrong_goes_wrong_for_both(both):
  for found in both[0]:
    assert found['said'] == [
      'ValueError: what it says',
      "RuntimeError: KeyError: 'other'",
      [0],
      100_001,
    ]


def test_a_stop_ends_what_the_first_is_about_and_reaches_both(both):
  """It would sleep for minutes, and is asked while the other waits."""
  for text in both[1]:
    assert text.splitlines()[-1] == 'False stopped on request; everything computed is saved'


def test_alone_it_is_a_call():
  assert once(lambda: 3) == 3
  with pytest.raises(KeyError):
    once(lambda: {}['none'])
