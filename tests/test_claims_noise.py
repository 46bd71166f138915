"""Claim 4 on made-up records; and where its structured noise comes from."""

import numpy as np
import pandas as pd
import pytest

from claims import base, noise_control
from data import automata, pipeline, sources
from experiments import structured_noise


def _records(gains: dict[str, float], seeds: int = 5, spread: float = 0.01) -> pd.DataFrame:
  """Accuracies of 300 images around .5, noise-trained networks so much better."""
  rng = np.random.default_rng(0)
  hard_N = rng.uniform(0, 1, 300)  # The same images for all.
  rows = []

  def add(objective, trained_on, seed, mean):
    each = (hard_N < mean).astype(float)
    each[rng.integers(0, 300, round(300 * spread))] = 0.5
    rows.append(
      {'objective': objective, 'trained_on': trained_on, 'seed': seed, 'measure': 'linear/100',
       'value': each.mean(), 'each': base.packed(each), 'subsets': f'labels {seed}'}
    )  # fmt: skip

  for seed in range(seeds):
    for objective in noise_control.TWINS:
      add(objective, 'noise', seed, 0.5 + gains.get(objective, 0.0) + rng.normal(0, spread))
      add(objective, 'automata', seed, 0.6)
    for twin in {*noise_control.TWINS.values()}:
      add(twin, 'nothing', seed, 0.5)
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'gains, outcome',
  [
    ({}, base.HOLDS),  # the null: nothing gained
    (dict.fromkeys(noise_control.TWINS, -0.2), base.HOLDS),
    (dict.fromkeys(noise_control.TWINS, 0.1), base.FAILS),
    ({'masked': 0.1}, base.DEPENDS),
  ],
)
def test_each_outcome(gains, outcome):
  verdict = noise_control.judge(_records(gains))
  assert verdict.outcome == outcome
  expected = 100 * max(gains.get(name, 0.0) for name in noise_control.TWINS)
  assert verdict.number == pytest.approx(expected, abs=3)
  assert verdict.interval[0] < verdict.number < verdict.interval[1]


def test_wide_intervals_and_few_seeds_decide_nothing():
  assert noise_control.judge(_records({}, spread=0.12)).outcome == base.INDISTINCT
  assert noise_control.judge(_records({}, seeds=4)).outcome == base.CANT
  assert noise_control.figure(_records({})).axes


def test_structured_noise_is_what_its_rule_says():
  # Rule 90: a cell becomes the exclusive or of its neighbours (Wolfram 1983).
  rule = np.array([(90 >> code) & 1 for code in range(8)])
  first = np.array([0, 0, 0, 1, 0, 0, 0, 0])
  states = automata.run(rule, first, 3)
  assert states.tolist() == [[0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 1, 0, 1, 0, 0, 0],
                             [0, 1, 0, 0, 0, 1, 0, 0]]  # fmt: skip


def test_examples_of_structured_noise_are_automata_of_two_symbols_and_fresh():
  source = sources.load(structured_noise.get_config().data, '')
  batches = pipeline.Batches(source, seed=0, batch_size=64)
  rows = np.concatenate([batches[0]['tokens'], batches[1]['tokens'], source.test.tokens_NxT])
  assert len(np.unique(rows, axis=0)) > 0.98 * len(rows)
  assert np.unique(rows).tolist() == list(range(17)) and source.dims == source.length == 64
  for row in rows.reshape(-1, 8, 8):
    high = row.max()
    bits, becomes = (row == high).astype(int), {}
    assert len(np.unique(row)) <= 2
    for above, below in zip(bits[:-1], bits[1:], strict=True):
      for x in range(8):
        key = (above[x - 1], above[x], above[(x + 1) % 8])
        assert becomes.setdefault(key, below[x]) == below[x]
  bits = automata.description_bits(17, 8)
  assert bits == pytest.approx(16 + np.log2(272))
  with pytest.raises(ValueError, match='data.width must be at least 1'):
    config = structured_noise.get_config().data
    config.width = 0
    sources.load(config, '')
