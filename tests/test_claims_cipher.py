"""Claim 5 on made-up records, and its sources."""

import numpy as np
import pandas as pd
import pytest

from claims import base
from claims import cipher as claim
from codes import cipher
from data import hierarchy
from runs import cipher as sources
from tests import nulls


def _records(rng, lacks, noise=0.01, seeds=5, control=0.0) -> pd.DataFrame:
  """What is missing of the key of each source."""
  rows = []
  for name, lack in {**dict(zip(claim.SOURCES, lacks, strict=True)), 'copy': control}.items():
    highest = 0.125 if name == 'copy' else 1.0
    for seed in range(seeds):
      for dims in (2, 16) if name == 'hierarchy' else (32,):
        of = {'source': name, 'seed': seed, 'dims': dims}
        rows.append(of | {'measure': 'ceiling', 'value': highest})
        for method in ('moments', 'bits'):
          for count in (10, 100):
            value = highest - lack - (0.2 if count == 10 else 0) + rng.normal(0, noise)
            found = {'method': method, 'sequences': count, 'measure': 'accuracy'}
            rows.append(of | found | {'value': value})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'lacks, noise, control, outcome',
  [
    ((0, 0, 0, 0), 0.0, 0.0, base.HOLDS),
    ((0.01, 0, 0, 0), 0.01, 0.0, base.HOLDS),
    ((0.5, 0.3, 0.4, 0.6), 0.01, 0.0, base.FAILS),
    ((0, 0, 0.4, 0), 0.01, 0.0, base.DEPENDS),
    ((0, 0, 0, 0), 0.3, 0.0, base.INDISTINCT),
    ((0, 0, 0, 0), 0.0, -0.5, base.CANT),
  ],
)
def test_each_outcome(lacks, noise, control, outcome):
  verdict = claim.judge(_records(np.random.default_rng(0), lacks, noise, control=control))
  assert verdict.outcome == outcome
  if noise < 0.1:
    assert verdict.number == pytest.approx(100 * max(lacks), abs=2)


def test_what_lacks_just_as_much_as_is_allowed_is_seldom_called_found_or_lost():
  found = nulls.shares(claim.judge, lambda rng: _records(rng, (claim.NEAR,) * 4))
  assert found[base.HOLDS] + found[base.FAILS] + found[base.DEPENDS] <= nulls.MOST


def test_few_seeds_decide_nothing():
  records = _records(np.random.default_rng(0), (0, 0, 0, 0), seeds=4)
  assert claim.judge(records).outcome == base.CANT
  assert len(claim.figure(records).axes) == 2


def test_strings_of_a_grammar_are_all_that_it_draws():
  grammar = hierarchy.draw_grammar(0, 2, 2, 4, 2)
  strings = sources.strings_of(grammar)
  drawn = np.unique(hierarchy.sample(grammar, 1, 0, 3000).tokens_NxT, axis=0)
  assert len(strings) == 2 ** round(grammar.entropy_bits())
  assert np.array_equal(np.unique(strings, axis=0), drawn)


@pytest.mark.parametrize('name', ['markov', 'markov2', 'text', 'hierarchy'])
def test_keys_of_sources_without_symmetries_are_found(name):
  source = sources.get(name, seed=1, depth=3)
  assert cipher.ceiling(source.symmetries()) == 1
  tokens = source.draw(20)
  assert tokens.min() >= 0 and tokens.max() < source.symbols
  *_, last = sources.recover(source, 1, (1000,))
  assert last == {'sequences': 1000, 'method': 'bits', 'accuracy': 1}


def test_of_a_copy_nothing_is_found():
  source = sources.get('copy', seed=1)
  assert cipher.ceiling(source.symmetries()) == 1 / 8
  with pytest.raises(ValueError, match='unknown source'):
    sources.get('copies', 1)
