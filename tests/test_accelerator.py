"""benchmarks.accelerator runs to its end on a CPU, and a part that fails costs only itself."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from benchmarks import accelerator

TOP = pathlib.Path(accelerator.__file__).parents[1]


def command(out: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess:
  return subprocess.run(
    [sys.executable, '-m', 'benchmarks.accelerator', '--toy', f'--out={out}', *arguments],
    cwd=TOP,
    capture_output=True,
    text=True,
    check=False,
  )


def test_every_part_runs_on_a_cpu(tmp_path):
  done = command(tmp_path / 'out.json')
  assert done.returncode == 0, done.stdout + done.stderr
  parts = json.loads((tmp_path / 'out.json').read_text())['parts']
  assert list(parts) == ['device', *accelerator.PARTS]
  rows = {name: part['rows'] for name, part in parts.items()}
  assert rows['device'][0]['platform'] == 'cpu'
  # Here and there are one device: the very same numbers.
  (parity,) = rows['parity']
  assert parity['largest_loss_difference'] == parity['bits_difference'] == 0
  assert parity['last_loss_here'] < 2.84 < parity['bits_here'] < 4.2
  for row in rows['attention']:
    assert not row['nan']
    # bfloat16 has eight bits of mantissa.
    assert 0 < row['value_error'] < 2**-7
    assert 0 < row['gradient_error'] < 2**-6
  ours = rows['training'][0]
  assert ours['library'] == 'ours'
  assert 0 < ours['mfu'] < 1
  assert rows['codec'][0]['right'] == rows['codec'][0]['decoded'] == 1
  assert all(row['certificate'] <= 1e-6 for row in rows['probe'])
  (compared,) = rows['compare']
  assert compared['runs'] == 1
  assert compared['bits']['autoregressive'] > 0


def test_a_part_that_fails_is_named_and_costs_only_itself(tmp_path):
  """The codec needs the run that parity leaves."""
  done = command(tmp_path / 'out.json', '--parts=codec')
  assert done.returncode == 1
  assert 'not finished: codec' in done.stderr
  parts = json.loads((tmp_path / 'out.json').read_text())['parts']
  assert 'parity leaves the run' in parts['codec']['failed']
  assert parts['device']['failed'] is None


def test_a_part_over_its_time_is_ended(tmp_path):
  found = accelerator.run_part('parity', 0.5, str(tmp_path), True)
  assert found['failed'] == 'over its 0 s'
  assert found['rows'] == []


@pytest.mark.parametrize('stop', [signal.SIGINT, signal.SIGTERM])
def test_a_command_that_is_stopped_takes_its_part_with_it(tmp_path, stop):
  """The part, and what the part itself started."""
  program = f"""
import pathlib, sys
from benchmarks import accelerator
part = "import subprocess; subprocess.run(['sleep', '99'])"
start = accelerator.subprocess.Popen

def slow(command, **how):
  process = start([sys.executable, '-c', part], **how)
  pathlib.Path({str(tmp_path / 'group')!r}).write_text(str(process.pid))
  return process

accelerator.subprocess.Popen = slow
sys.argv = ['accelerator', '--out={tmp_path / 'out.json'}', '--parts=codec']
accelerator.define_flags()
accelerator.app.run(accelerator.main)
"""
  process = subprocess.Popen(
    [sys.executable, '-c', program], cwd=TOP, stderr=subprocess.DEVNULL,
    # Ignored by whatever is started in the background, tests too.
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
  )  # fmt: skip
  told = tmp_path / 'group'
  while not (told.exists() and told.read_text()):
    assert process.poll() is None
    time.sleep(0.05)
  time.sleep(0.5)
  process.send_signal(stop)
  assert process.wait() != 0
  with pytest.raises(ProcessLookupError):
    for _ in range(100):
      os.killpg(int(told.read_text()), 0)
      time.sleep(0.1)  # Of those that were killed the system may not have taken notice yet.


@pytest.mark.parametrize('flag', ['--parts=parity,nothing', 'what'])
def test_bad_flags_are_one_line(tmp_path, flag):
  done = command(tmp_path / 'out.json', flag)
  assert done.returncode != 0
  assert 'nothing' in done.stderr or "'what' is not a flag" in done.stderr
