"""What of a machine decides the last bits of what it computes."""

import os

import numpy as np
from numpy._core import _multiarray_umath as umath

# Instruction sets, the widest first, as NumPy finds them.
_WIDEST = (
  'AVX512_SPR',
  'AVX512_ICL',
  'AVX512_SKX',
  'AVX512F',
  'AVX2',
  'AVX',
  'SSE42',
  'SVE',
  'NEON',
)


def facts() -> list[str]:
  """Instruction set, cores that may be used, NumPy."""
  known = umath.__cpu_features__
  widest = next((name for name in _WIDEST if known.get(name)), 'no wide instructions')
  cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
  return [widest, f'{cores} core{"s" * (cores != 1)}', f'numpy {np.__version__}']
