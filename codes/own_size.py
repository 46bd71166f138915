"""A compressor's own size: weights and data together, and the code that sends no weights.

Two-part code: bits of the weights plus bits of n images, n at the rate measured on a whole split.
Weights are sent as float32, as bfloat16, and quantised to 2..8 bits a tensor (`codes.weights`, real
bytes), each with the bits per dimension that the network has with exactly these weights. How many
bits is chosen on validation: the format from which on the fewest images beat the best baseline, or
where none ever does, the shortest code of as many images as the test split has. Test is evaluated
for float32, bfloat16 and the chosen format.

The baselines pay for nothing of their own: not for their program, nor the histogram for its counts.
The rates of compressors are those at the size of the split; on more images they may fall, so that
break-even beyond the split is an extrapolation in favour of the network. The network pays for its
weights, not for its program. A bound (≤) is the mean length of files in random orders where the
objective fills in (masked and block diffusion), of a code with bits back for the other diffusions;
nothing here pools bounds with exact bits.

Training-time code: `codes.training_time`.
"""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any

import jax
import numpy as np

from codes import baselines as baselines_lib
from codes import histogram, weights
from data.dataset import Dataset

BITS = tuple(range(2, 9))
FLOAT32, BFLOAT16 = 'float32', 'bfloat16'


# Weights in every format.


def sent(params: Any, name: str) -> tuple[Any, int]:
  """What the receiver of the weights has, and how many bits it took to send.

  Args:
    params: a tree of arrays.
    name: 'float32', 'bfloat16', or '2 bits' .. '8 bits'.
  """
  leaves, tree = jax.tree.flatten(params)
  arrays = [np.asarray(leaf, np.float32) for leaf in leaves]
  count = sum(array.size for array in arrays)
  if name == FLOAT32:
    received, size = arrays, 32 * count
  elif name == BFLOAT16:
    rounded = [array.astype(jax.numpy.bfloat16) for array in arrays]
    received, size = [array.astype(np.float32) for array in rounded], 16 * count
  else:
    bits = int(name.split()[0])
    code = weights.encode(arrays, bits)
    received, size = weights.decode(code, [array.shape for array in arrays], bits), 8 * len(code)
  placed = [
    jax.device_put(array.astype(leaf.dtype), leaf.sharding)
    for array, leaf in zip(received, leaves, strict=True)
  ]
  return jax.tree.unflatten(tree, placed), size


def formats(bits: Sequence[int] = BITS) -> tuple[str, ...]:
  return (FLOAT32, BFLOAT16, *(f'{b} bits' for b in bits))


# Accounting.


def break_even(weight_bits: float, dims: int, own: float, other: float) -> int | None:
  """Images from which weights and code are shorter than another code; None for never.

  Args:
    weight_bits: of the weights.
    dims: dimensions an image.
    own, other: bits per dimension.
  """
  if other <= own:
    return None
  return math.floor(weight_bits / (dims * (other - own))) + 1


def choose(rows: Sequence[Mapping], dims: int, count: int, best: float) -> Mapping:
  """The format to send, by validation: fewest images to break even, else the shortest for `count`.

  Args:
    rows: each with weight_bits and validation, bits per dimension.
    dims: dimensions an image.
    count: images in the test split.
    best: bits per dimension of the best baseline on validation.
  """

  def cost(row: Mapping) -> tuple:
    images = break_even(row['weight_bits'], dims, row['validation'], best)
    total = row['weight_bits'] + count * dims * row['validation']
    return (images is None, images or 0, total)

  return min(rows, key=cost)


def baselines(dataset: Dataset, split: str) -> dict[str, float]:
  """Bits per dimension of codes that need no weights, by name."""
  found = {'uniform': histogram.uniform_bits(dataset.vocabulary)}
  if dataset.epoch is not None:
    found['histogram'] = histogram.split_bits(dataset, split)
  for row in baselines_lib.table(dataset, split, after_train=False):
    if row.bits_per_dim is not None and row.name not in baselines_lib.NO_COMPRESSORS:
      found[row.name] = row.bits_per_dim
  return found


def measure(
  dataset: Dataset,
  params: Any,
  bits_of: Callable[[Any, str], float],
  bits: Sequence[int] = BITS,
) -> dict:
  """The two-part code of one network.

  Args:
    dataset: what is coded.
    params: a tree of arrays.
    bits_of: (parameters, 'validation' or 'test') -> bits per dimension.
    bits: a weight, of the quantised formats.

  Returns:
    dims, images (of test), parameters, baselines (by split), best (name of the best classical one
    on validation), totals (see there), rows: a format each with name, weight_bits, validation and
    test (bits per dimension; test where it was evaluated), chosen (of the quantised ones) and
    break_even (by baseline that there is, None for never; on test, or on validation where test was
    not read).
  """
  by_split = {split: baselines(dataset, split) for split in ('validation', 'test')}
  known = by_split['validation']
  best = min((k for k in known if k not in ('uniform', 'histogram')), key=known.get, default=None)
  rows, received = [], {}
  for name in formats(bits):
    received[name], size = sent(params, name)
    found = bits_of(received[name], 'validation')
    rows.append({'name': name, 'weight_bits': size, 'validation': found, 'test': None})
  quantised = [row for row in rows if row['name'] not in (FLOAT32, BFLOAT16)]
  chosen = choose(quantised, dataset.dims, len(dataset.test), min(known.values()))
  for row in rows:
    row['chosen'] = row is chosen
    if row is chosen or row['name'] in (FLOAT32, BFLOAT16):
      row['test'] = bits_of(received[row['name']], 'test')
    split = 'validation' if row['test'] is None else 'test'
    others = {'best': best, 'histogram': 'histogram', 'uniform': 'uniform'}
    row['break_even'] = {
      key: break_even(row['weight_bits'], dataset.dims, row[split], by_split[split][other])
      for key, other in others.items()
      if other in by_split[split]
    }
  made = {
    'dims': dataset.dims,
    'images': len(dataset.test),
    'parameters': sum(leaf.size for leaf in jax.tree.leaves(params)),
    'baselines': by_split,
    'best': best,
    'rows': rows,
  }
  return made | {'totals': totals(made)}


def totals(made: Mapping) -> list[dict]:
  """Bits an image, weights included, for growing numbers of images: {'images', name: bits}."""
  counts = sorted({made['images'], *(10**k for k in range(0, 8))})
  shown = [row for row in made['rows'] if row['test'] is not None]
  rates = made['baselines']['test']
  names = [name for name in (made['best'], 'histogram', 'uniform') if name in rates]
  return [
    {'images': n}
    | {row['name']: row['weight_bits'] / n + made['dims'] * row['test'] for row in shown}
    | {name: made['dims'] * rates[name] for name in names}
    for n in counts
  ]
