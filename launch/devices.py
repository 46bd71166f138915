"""Which devices JAX looks for."""

import glob
import importlib.util
import os

_OTHER_PLUGINS = ('jax_cuda12_plugin', 'jax_cuda13_plugin', 'jax_rocm7_plugin', 'jax_rocm60_plugin')


def settle(chips: str = '/dev/accel*', groups: str = '/dev/vfio/[0-9]*') -> None:
  """Keeps JAX from looking for a TPU that isn't there, before it is imported.

  `launch.aot` wants libtpu on machines without a TPU. Wherever libtpu is installed JAX tries to
  start one, and says so at length before it falls back to the CPU.
  """
  asked = any(name in os.environ for name in ('JAX_PLATFORMS', 'JAX_FORCE_TPU_INIT'))
  if asked or not _installed('libtpu') or any(map(_installed, _OTHER_PLUGINS)):
    return
  if not glob.glob(chips) and not glob.glob(groups):
    os.environ['JAX_PLATFORMS'] = 'cpu'


def _installed(module: str) -> bool:
  return importlib.util.find_spec(module) is not None
