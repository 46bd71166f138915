"""Shared fixtures. Rank promotion raises everywhere, so that no shape is right by accident."""

import gc
import importlib.metadata
import os
import re


def _take_a_core() -> None:
  """Gives every parallel worker a core of its own: two that share all cores are slower."""
  worker = re.fullmatch(r'gw(\d+)', os.environ.get('PYTEST_XDIST_WORKER', ''))
  if worker and hasattr(os, 'sched_setaffinity'):
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker[1]) % len(cores)]})


def _share_compilations() -> None:
  """One cache of compiled programs for all workers and the processes they start, kept for later."""
  here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', os.path.join(here, '.pytest_cache', 'jax'))
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.2')


def _compile_quickly() -> None:
  """Without LLVM's optimisations, which cost tests more than they save; what they start, too.

  The emitters of fusions take two thirds of what is left; from 0.11 on there is no way round them,
  and a flag that XLA does not know ends the process. OPTIMISED=1 leaves everything as users have
  it: `make test` runs the tests marked `bits` so.
  """
  if os.environ.get('OPTIMISED'):
    return
  flags = [os.environ.get('XLA_FLAGS', ''), '--xla_backend_optimization_level=0']
  if importlib.metadata.version('jaxlib').startswith('0.10.'):
    flags.append('--xla_cpu_use_fusion_emitters=false')
  os.environ['XLA_FLAGS'] = ' '.join(flags).strip()


_take_a_core()  # Before JAX counts the cores.
_share_compilations()  # Before JAX reads its settings.
_compile_quickly()

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update('jax_platforms', os.environ.get('JAX_PLATFORMS') or 'cpu')
jax.config.update('jax_numpy_rank_promotion', 'raise')


# Files that take longest, the longest first.
_LONG = (
  'distributed', 'launch', 'accelerator', 'compress', 'codes_commands', 'prequential_code',
  'training', 'backbone', 'two_devices', 'pilots', 'gaussian', 'codes_baselines', 'mesh_probe',
  'aot', 'counting', 'comparison', 'energy', 'finetune', 'placement',
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Long files come first: with one of them last, one of two workers would wait for it."""
  places = {f'test_{name}': place for place, name in enumerate(_LONG)}
  items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def pytest_collection_finish() -> None:
  """What was imported stays: to look through it again and again takes a twentieth of the time."""
  gc.collect()
  gc.freeze()
  gc.set_threshold(10_000, 20, 20)


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory) -> str:
  """Where the session's data sets are prepared, once."""
  return str(tmp_path_factory.mktemp('data'))
