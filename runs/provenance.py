"""What a run is made of beside its config: data, code, machine; and what of it may change."""

from collections.abc import Mapping, Sequence
import glob
import importlib.metadata
import itertools
import os
import subprocess
import sys
from typing import Any

import jax

from data.dataset import Dataset
from runs import configs
from runs.errors import UserError
from training import distributed, keys

_PACKAGES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'grain', 'numpy', 'scikit-learn')
_MADE_WITH = ('git', 'versions', 'environment')
# Settings of JAX under which the same config gives other numbers, by more than rounding.
_DECIDING = ('prng', 'threefry_partitionable', 'random_seed_offset', 'x64', 'matmul_precision')


def versions() -> dict[str, str]:
  return {name: importlib.metadata.version(name) for name in _PACKAGES}


def git_revision() -> str | None:
  """The revision of this code, with a + if it has uncommitted changes; None outside git."""
  here = os.path.dirname(os.path.abspath(__file__))
  try:
    out = subprocess.run(
      ['git', 'describe', '--always', '--abbrev=12', '--exclude=*', '--dirty=+'],
      cwd=here,
      capture_output=True,
      text=True,
      check=True,
    )
    return out.stdout.strip() or None
  except (OSError, subprocess.CalledProcessError):
    return None


def idle_accelerator(
  files: Sequence[str] = ('/dev/nvidia[0-9]*', '/dev/accel*', '/dev/vfio/[0-9]*'),
) -> str | None:
  """One line where the machine has a GPU or TPU and JAX computes on the CPU without being asked to.

  Args:
    files: patterns of the devices' files.
  """
  found = sorted(itertools.chain(*map(glob.glob, files)))
  if not found or jax.default_backend() != 'cpu' or os.environ.get('JAX_PLATFORMS') == 'cpu':
    return None
  return (
    f'warning: {found[0]} is an accelerator that JAX does not use: this runs on the CPU; see '
    'docs/pods.md for the extras cuda and tpu, or set JAX_PLATFORMS=cpu to say so'
  )


def environment() -> dict[str, Any]:
  """The devices, and settings of JAX that decide numbers."""
  device = jax.devices()[0]
  settings = jax.config.values
  return {
    'platform': device.platform,
    'device_kind': device.device_kind,
    'devices': jax.device_count(),
    'processes': jax.process_count(),
    'xla_flags': os.environ.get('XLA_FLAGS', ''),
    'prng': keys.IMPLEMENTATION,
    'threefry_partitionable': settings.get('jax_threefry_partitionable'),
    'random_seed_offset': settings.get('jax_random_seed_offset'),
    'x64': settings.get('jax_enable_x64'),
    'matmul_precision': settings.get('jax_default_matmul_precision'),
  }


def made_with() -> dict[str, Any]:
  """Revision, versions and environment of this process."""
  return {'git': git_revision(), 'versions': versions(), 'environment': environment()}


def hashes(dataset: Dataset, probed: Dataset) -> dict[str, str]:
  """What tells data from other data: of what is compressed, and of what is probed."""
  return {'data_hash': dataset.digest, 'probe_data_hash': probed.digest}


def check_data(workdir: str, found: Mapping[str, str]) -> None:
  """UserError if the run in `workdir` began with other data than those of these `hashes`.

  A run of an earlier version wrote them down when it was finished; before that it can't be told.
  """
  try:
    saved = configs.read_saved(workdir)
  except UserError:
    return  # Nothing has begun there.
  if 'data_hash' not in saved:
    rows = saved.get('config', {}).get('probe', {}).get('train_rows')
    record = configs.read_record(workdir) or {}
    # With rows left out it is the hash of the rest.
    saved = {name: record.get(name) for name in ('data_hash', *(() if rows else found))}
  for name, now in found.items():
    if saved.get(name) not in (None, now):
      raise UserError(
        f'{workdir} is of other data: its {name} is {saved[name][:12]}, that of the data now is '
        f'{now[:12]}; bring its data back (--data_dir, files that config.data names), or start '
        'again in another --workdir'
      )


def changed(began: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
  """Name -> (then, now) of what is different; what was not written down then is not."""
  found = {}
  for name in ('versions', 'environment'):
    before, after = began.get(name) or {}, now[name]
    found |= {k: (before[k], after[k]) for k in after if k in before and before[k] != after[k]}
  if 'git' in began and began['git'] != now['git']:
    found['git'] = (began['git'], now['git'])
  return found


def goes_on(workdir: str, began: dict[str, Any], now: Mapping[str, Any]) -> bool:
  """Whether a run goes on with something else than before; prints one line if not as it began.

  Args:
    workdir: of the run.
    began: content of its config.json; what it goes on with is added to 'went_on_with'.
    now: as `made_with`.

  Raises:
    UserError: a setting of JAX differs that makes other numbers of the same config.
  """
  found = changed(began, now)
  words = '; '.join(f'{name} {then} -> {new}' for name, (then, new) in sorted(found.items()))
  if any(name in found for name in _DECIDING):
    raise UserError(
      f'{workdir} began under other settings of JAX: {words}; set them as they were, or start '
      'again in another --workdir'
    )
  if found and distributed.is_primary():
    print(f'warning: {workdir} goes on with other than it began with: {words}', file=sys.stderr)
  earlier = began.get('went_on_with') or []
  if not changed((earlier or [began])[-1], now):
    return False
  began['went_on_with'] = [*earlier, {name: now[name] for name in _MADE_WITH}]
  return True


def of_record(saved: Mapping[str, Any]) -> dict[str, Any]:
  """What a record says: what the run began with, and whatever else it went on with."""
  began = {name: saved.get(name) for name in _MADE_WITH}
  return {**began, 'went_on_with': saved.get('went_on_with') or []}
