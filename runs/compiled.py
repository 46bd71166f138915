"""Where compiled programs are kept, so that a run that goes on compiles nothing again."""

import os
import platform
import re
import zlib

import jax

_SECONDS = 'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'


def keep(workdir: str) -> None:
  """Lets JAX keep them in WORKDIR/compilation_cache, unless its own settings name a place.

  By processor: JAX does not tell apart those that have other instructions.
  """
  if jax.config.jax_compilation_cache_dir is not None:
    return
  where = os.path.join(workdir, 'compilation_cache', _processor())
  jax.config.update('jax_compilation_cache_dir', where)
  if _SECONDS not in os.environ:
    jax.config.update(_SECONDS.lower(), 0.5)


def _processor() -> str:
  try:
    with open('/proc/cpuinfo', encoding='utf-8') as file:
      flags = re.search(r'^(?:flags|Features)\s*:(.*)$', file.read(), re.MULTILINE)
  except OSError:
    flags = None
  return f'{platform.machine()}-{zlib.crc32(flags[1].encode()) if flags else 0:08x}'
