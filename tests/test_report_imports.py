"""What commands load: those that only read records start fast, and without JAX."""

import pathlib
import subprocess
import sys

import pytest
from records import write_comparison

ROOT = pathlib.Path(__file__).parents[1]
HEAVY = ('jax', 'flax', 'tensorflow', 'tensorboardX', 'scipy.stats', 'sklearn')
DRAWING = ('matplotlib', 'PIL')
PROGRAM = """
import sys
{program}
print(*sorted({{name for name in {names} if name in sys.modules}}))
"""
# A command as it runs, but for the exit at its end.
COMMAND = """
from launch import entry, {name}
{name}.define_flags()
sys.argv = ['{name}', {argument!r}]
try:
  entry.run({name}.main)
except SystemExit as end:
  assert not end.code, end.code
print()
"""


@pytest.fixture(scope='module', name='top')
def comparison(tmp_path_factory):
  return write_comparison(tmp_path_factory.mktemp('loads'))


def loaded(program: str, names: tuple[str, ...]) -> list[str]:
  """Which of the named modules a process has loaded once it has run the program."""
  text = PROGRAM.format(program=program, names=names)
  done = subprocess.run([sys.executable, '-c', text], capture_output=True, text=True, cwd=ROOT)
  assert done.returncode == 0, done.stderr
  return done.stdout.splitlines()[-1].split()


def test_importing_the_commands_loads_nothing_heavy():
  program = 'import launch.report, launch.status'
  assert loaded(program, (*HEAVY, *DRAWING, 'pandas', 'jinja2', 'scipy')) == []


def test_a_training_starts_without_what_only_its_end_needs():
  program = 'import launch.train; from runs import compiled, experiment, lock, run; print()'
  heavy = ('matplotlib', 'tensorflow', 'pandas', 'sklearn', 'scipy.optimize', 'scipy.stats')
  assert loaded(program, (*heavy, 'runs.run')) == ['runs.run']


def test_importing_all_of_reports_loads_only_what_it_may():
  names = [path.stem for path in (ROOT / 'reports').glob('*.py') if path.stem != '__init__']
  imports = '; '.join(f'import reports.{name}' for name in names)
  rooms = ('models', 'data', 'objectives', 'training', 'codes', 'experiments', 'runs', 'launch')
  assert loaded(imports, (*HEAVY, *rooms)) == []
  # Of probes, the names of measures alone.
  assert loaded(imports, ('probes.measures', 'probes.linear', 'probes.suite')) == [
    'probes.measures'
  ]


def test_a_status_loads_nothing_that_draws_or_counts(top):
  program = COMMAND.format(name='status', argument=str(top))
  assert loaded(program, (*HEAVY, *DRAWING, 'pandas', 'jinja2', 'scipy', 'numpy')) == []


def test_a_report_draws_without_jax_and_again_without_matplotlib(top):
  program = COMMAND.format(name='report', argument=str(top))
  assert loaded(program, (*HEAVY, 'matplotlib')) == ['matplotlib']
  assert loaded(program, (*HEAVY, *DRAWING)) == []
