"""Claim 10 on made-up records, and the bounds themselves."""

import numpy as np
import pandas as pd
import pytest

from claims import base, program_counts
from codes import description
from experiments import hierarchy as config_file
from runs import configs, experiment, growing
from runs.errors import UserError
from tests import nulls


def _records(rng, rate, noise=0.01, seeds=5, printed=1.0) -> pd.DataFrame:
  """Network: 200,000 bits of program and `rate` bits a string. Others: 2,000 and 30; 100,000 and
  25."""
  rows = [{'measure': 'printed', 'value': printed, 'seed': 0}]
  codes = {'network': (200_000, rate), 'xz': (2_000, 30.0), 'counting': (100_000, 25.0)}
  for seed in range(seeds):
    for count in (1000, 5000, 50_000):
      for code, (program, bits) in codes.items():
        file = bits * count * (1 + rng.normal(0, noise))
        row = {'seed': seed, 'examples': count, 'dims': 16, 'code': code, 'program': program}
        rows.append(row | {'file': file, 'measure': 'bound', 'value': program + file})
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'rate, noise, printed, outcome',
  [
    (20.0, 0.001, 1.0, base.HOLDS),
    # 1,400,000 against 1,350,000 of the counting code, but 24 bits a string against 25.
    (24.0, 0.001, 1.0, base.DEPENDS),
    (26.0, 0.001, 1.0, base.FAILS),
    (20.0, 0.001, 0.0, base.FAILS),
    (23.0, 0.1, 1.0, base.INDISTINCT),
  ],
)
def test_each_outcome(rate, noise, printed, outcome):
  records = _records(np.random.default_rng(0), rate, noise, printed=printed)
  verdict = program_counts.judge(records)
  assert verdict.outcome == outcome
  expected = 100 * (1 - (200_000 + rate * 50_000) / 1_350_000)
  assert verdict.number == pytest.approx(expected, abs=100 * noise + 0.1)


def test_the_best_without_a_network_is_another_one_for_more_data():
  records = _records(np.random.default_rng(0), 20.0, 0.0)
  table = program_counts.gains(records)
  expected = [1 - 220 / 32, 1 - 300 / 152, 1 - 1200 / 1350]
  assert table.loc[0].tolist() == pytest.approx(expected)
  text = program_counts.judge(records).text
  assert 'win after 5,000 and at 50,000 strings at the latest' in text
  assert 'counting, 1,350,000 bits' in text and program_counts.figure(records).axes


def test_bounds_that_are_equal_are_seldom_told_apart():
  found = nulls.shares(program_counts.judge, lambda rng: _records(rng, 23.0, 0.005))
  assert found[base.HOLDS] + found[base.FAILS] <= nulls.MOST
  assert program_counts.judge(_records(np.random.default_rng(0), 20, seeds=4)).outcome == base.CANT


def _built(*overrides):
  small = ('model.width=16', 'model.layers=1', 'model.heads=2', 'training.steps=6', *overrides)
  small += ('training.batch_size=20', 'training.log_every=2', 'data.depth=2', 'probe_data.depth=2')
  return experiment.build(
    configs.override(config_file.get_config(), [f'--config.{text}' for text in small]), ''
  )


def test_the_network_pays_for_what_it_had_not_learnt_yet_and_for_its_program():
  built = _built()
  curve = [{'step': s, 'train/bits_per_dim': b} for s, b in ((2, 3.0), (4, 2.0), (6, 1.0))]
  found = growing.by_network(curve, built, 80, 1000)
  # Two windows of two batches of 20 strings of 4 tokens.
  assert (found.file_bits, found.bits) == (40 * 4 * 3 + 40 * 4 * 2, 1800)
  assert growing.by_network(curve, built, 100, 1000) is None
  batches = np.concatenate([built.batches[step]['tokens'] for step in range(6)])
  assert np.array_equal(growing.streamed(built), batches[:, :4])
  with pytest.raises(UserError, match='drawn afresh'):
    growing.streamed(_built('data.examples=200'))


def test_codes_without_a_network_are_files_with_their_drivers():
  tokens = np.tile(np.arange(8), (200, 1)).astype(np.int32)
  found = {one.name: one for one in growing.without(tokens, 8)}
  assert found['raw'].file_bits == 8 * np.ceil((1600 * 3 + 1) / 8)
  gzip = found['gzip -9, example by example, bytes']
  expected = description.library('gzip -9', 'example by example, bytes', gzip.file_bits, 8, 8)
  assert gzip == expected and gzip.file_bits < 1000
  assert found['counting'].program_bits > 50_000 > found['counting'].file_bits
