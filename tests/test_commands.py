"""Every command can be imported beside every other; which devices they look for."""

import importlib
import os
import re
import subprocess
import sys

from absl import flags
import pytest

from launch import devices

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def _commands() -> list[str]:
  found = []
  for package in ('launch', 'benchmarks'):
    for name in sorted(os.listdir(os.path.join(ROOT, package))):
      if name.endswith('.py'):
        with open(os.path.join(ROOT, package, name), encoding='utf-8') as file:
          if "if __name__ == '__main__':" in file.read():
            found.append(f'{package}.{name[:-3]}')
  return found


def test_commands_define_their_flags_only_when_run():
  commands = _commands()
  assert {'launch.train', 'launch.compare', 'launch.joint', 'benchmarks.codec'} <= set(commands)
  for command in commands:
    importlib.import_module(command)
  assert not set(flags.FLAGS.flags_by_module_dict()) & set(commands)


class _Recorder:
  """In the place of absl's flags: which ones a command defines."""

  def __init__(self):
    self.names: set[str] = set()

  def __getattr__(self, name: str):
    return lambda flag, *_, **__: self.names.add(flag)


@pytest.mark.parametrize('command', [name for name in _commands() if name.startswith('launch.')])
def test_every_flag_stands_on_a_page(command, monkeypatch):
  pages = [os.path.join(ROOT, 'README.md')]
  pages += [os.path.join(ROOT, 'docs', name) for name in os.listdir(os.path.join(ROOT, 'docs'))]
  text = ''.join(open(page, encoding='utf-8').read() for page in pages if page.endswith('.md'))
  module, recorder = importlib.import_module(command), _Recorder()
  monkeypatch.setattr(module, 'flags', recorder)
  module.define_flags()
  # What is for the command itself, and another way to say what stands without a flag.
  names = recorder.names - {'piece', 'dirs'}
  assert recorder.names
  assert [name for name in sorted(names) if not re.search(rf'--(no)?{name}\b', text)] == []


def test_a_mistyped_flag_is_answered_without_jax():
  commands = [name for name in _commands() if name.startswith('launch.')]
  program = (
    'import importlib, sys; modules = [importlib.import_module(name) for name in sys.argv[1:]]; '
    'print(len(modules), "jax" in sys.modules)'
  )
  done = subprocess.run(
    [sys.executable, '-c', program, *commands],
    cwd=ROOT, env={**os.environ, 'PYTHONPATH': ROOT}, capture_output=True, text=True,
  )  # fmt: skip
  assert done.stdout.split() == [str(len(commands)), 'False'], done.stderr


@pytest.fixture
def platforms(monkeypatch):
  for name in ('JAX_PLATFORMS', 'JAX_FORCE_TPU_INIT'):
    monkeypatch.setenv(name, '')  # So that it is put back.
    monkeypatch.delenv(name)
  return monkeypatch


def _settled(platforms, installed: set[str], chips: str) -> str | None:
  platforms.setattr(devices, '_installed', installed.__contains__)
  devices.settle(chips, 'nowhere')
  return os.environ.get('JAX_PLATFORMS')


def test_libtpu_without_a_tpu_is_left_alone(platforms):
  assert _settled(platforms, {'libtpu'}, 'nowhere') == 'cpu'


def test_devices_are_jax_s_own_choice_otherwise(platforms, tmp_path):
  (tmp_path / 'accel0').touch()
  assert _settled(platforms, {'libtpu'}, str(tmp_path / 'accel*')) is None
  assert _settled(platforms, set(), 'nowhere') is None
  assert _settled(platforms, {'libtpu', 'jax_cuda12_plugin'}, 'nowhere') is None
  platforms.setenv('JAX_PLATFORMS', 'tpu')
  assert _settled(platforms, {'libtpu'}, 'nowhere') == 'tpu'
