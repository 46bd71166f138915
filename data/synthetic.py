"""What the synthetic sources share: counter-based randomness, splits and the end token."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from data.belief import Truth
from data.dataset import Dataset, Examples

# Seeds of the splits that are fixed; all lie outside the range of training seeds.
VALIDATION_SEED, TEST_SEED, TRAIN_SEED = 2**40, 2**40 + 1, 2**40 + 2
# Token that stands behind every sequence: never charged or masked, but a causal backbone that
# stands on it has seen the whole sequence.
END_TOKEN = 0


class Draw(NamedTuple):
  """N sequences: tokens (N, T), labels (N,), -1 without any, and latents (N, nodes) by level."""

  tokens_NxT: np.ndarray
  labels_N: np.ndarray
  levels: tuple[np.ndarray, ...]


# (seed, first index, count) -> sequences first..first+count-1 of the stream that seed names.
Sampler = Callable[[int, int, int], Draw]


def random_words(seed: int, first: int, count: int, words: int) -> np.ndarray:
  """Uniform 64-bit words of examples first..first+count-1, uint64 (count, words).

  Philox (Salmon et al. 2011) is a function of a counter: an example's words are the same whether
  it is drawn alone, in a batch or out of order.
  """
  blocks = -(-words // 4)  # Philox makes four words for each value of the counter.
  generator = np.random.Philox(key=int(seed), counter=int(first) * blocks)
  return generator.random_raw(count * blocks * 4).reshape(count, -1)[:, :words]


def with_end_token(tokens_NxT: np.ndarray) -> np.ndarray:
  """int32 (N, T + 1)."""
  length = tokens_NxT.shape[1]
  out = np.full((len(tokens_NxT), length + 1), END_TOKEN, np.int32)
  out[:, :length] = tokens_NxT
  return out


def latents_by_name(levels: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
  """'level0/0' is the root, 'level2/3' the fourth node two levels below; each int32 (N,)."""
  return {
    f'level{level}/{node}': values_NxK[:, node]
    for level, values_NxK in enumerate(levels)
    for node in range(values_NxK.shape[1])
  }


def split(sampler: Sampler, seed: int, count: int) -> tuple[Examples, dict[str, np.ndarray]]:
  """The first `count` examples of a stream, with end tokens, and their latents by name."""
  draw = sampler(seed, 0, count)
  return Examples(with_end_token(draw.tokens_NxT), draw.labels_N), latents_by_name(draw.levels)


def build(
  name: str, sampler: Sampler, truth: Truth, config: Any, classes: int | None, note: str
) -> Dataset:
  """The data set of a sampler; `config` has `examples` (0: drawn afresh for ever), `held_out`.

  Raises:
    ValueError: a bad setting.
  """
  for field, least in (('examples', 0), ('held_out', 1)):
    if config[field] < least:
      raise ValueError(f'data.{field} must be at least {least}, not {config[field]}')

  def draw_one(seed: int, index: int) -> dict[str, np.ndarray]:
    draw = sampler(seed, index, 1)
    return {'tokens': with_end_token(draw.tokens_NxT)[0], 'label': draw.labels_N[0]}

  validation, validation_latents = split(sampler, VALIDATION_SEED, config.held_out)
  test, test_latents = split(sampler, TEST_SEED, config.held_out)
  latents = {'validation': validation_latents, 'test': test_latents}
  train = draw_one
  if config.examples:
    train, latents['train'] = split(sampler, TRAIN_SEED, config.examples)
  supply = f'{config.examples} examples' if config.examples else 'drawn afresh'
  return Dataset(
    name=name,
    vocabulary=truth.vocabulary,
    dims=truth.dims,
    length=truth.dims + 1,
    shape=(),
    classes=classes,
    ordinal=False,
    note=f'{note}, entropy {truth.entropy_bits_per_dim():.4f} bits per token, {supply}',
    lossless=True,
    train=train,
    validation=validation,
    test=test,
    latents=latents,
    truth=truth,
  )
