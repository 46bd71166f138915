"""Claim 6: what the law says of a key, by enumeration; and its judge on made-up records."""

import functools
import itertools
import math

import numpy as np
import pandas as pd
import pytest

from claims import base
from claims import joint_cipher as claim
from claims.joint_cipher import (
  ALONE,
  BACKWARDS,
  CODES,
  COUNTED,
  EXACT,
  KEY,
  KNOWN,
  UNKNOWN,
  UNRELATED,
)
from codes import cipher, lengths
from data import markov
from runs import joint_cipher
from tests import nulls

SMALL = joint_cipher.Setting(
  symbols=3, length=6, x_rows=48, y_rows=40, width=16, layers=1, heads=2, chunk=8, updates=1
)


def test_the_law_pays_for_the_key_what_a_sum_over_all_keys_says():
  chain = markov.draw_chain(2, 3, 6, 0.5)
  plain = markov.sample(chain, 5, 0, 4).tokens_NxT
  bits = joint_cipher.exact_bits(chain, plain)
  np.testing.assert_allclose(bits, np.asarray(chain.nats(plain)) / math.log(2), rtol=1e-4)
  y = np.array([2, 0, 1])[plain]
  totals = [
    joint_cipher.exact_bits(chain, cipher.deciphered(y, np.array(key))).sum()
    for key in itertools.permutations(range(3))
  ]
  expected = -np.log2(np.mean(2.0 ** -np.array(totals)))
  assert joint_cipher.key_bits(chain, y) == pytest.approx(expected)
  # Never more than naming the key, and nothing where there is no text.
  assert bits.sum() < joint_cipher.key_bits(chain, y) <= bits.sum() + math.log2(6) + 1e-9
  assert joint_cipher.key_bits(chain, y[:0]) == pytest.approx(0)


def test_networks_are_given_what_they_are_said_to_be_given(monkeypatch):
  given = []

  def bits(tokens, vocabulary, settings):
    given.append((tokens, vocabulary))
    return np.arange(len(tokens), dtype=float)

  monkeypatch.setattr(joint_cipher.lengths, 'bits', bits)
  found = joint_cipher.measure(3, SMALL)
  known, unknown, alone, unrelated, backwards = (tokens for tokens, _ in given)
  assert {vocabulary for _, vocabulary in given} == {3}
  assert len(known) == len(unknown) == len(unrelated) == len(backwards) == 88 and len(alone) == 40
  assert (known[:48] == unknown[:48]).all() and (backwards[:48, ::-1] == known[:48]).all()
  assert all((text[48:] == alone).all() for text in (unknown, unrelated, backwards))
  # A permutation leads from what is deciphered to what is not.
  pairs = {(int(a), int(b)) for a, b in zip(known[48:].ravel(), alone.ravel(), strict=True)}
  assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}) == 3
  assert found['known'].tolist() == list(range(48, 88))
  chain = markov.draw_chain(3, 3, 6, 0.5)
  np.testing.assert_allclose(found['exact'], joint_cipher.exact_bits(chain, known[48:]))
  # By its own law X is shorter than the text in its place.
  x_bits = joint_cipher.exact_bits(chain, known[:48]).sum()
  assert x_bits < joint_cipher.exact_bits(chain, unrelated[:48]).sum()
  assert 0 < found['key'] <= math.log2(6) + 1e-9


def test_the_network_from_nothing_is_the_prequential_code():
  found = joint_cipher.measure(3, SMALL)
  assert found['alone'][:8] == pytest.approx(np.full(8, 6 * math.log2(3)), rel=1e-3)
  assert all(len(found[name]) == 40 and np.isfinite(found[name]).all() for name in CODES)
  assert found['exact'].sum() < found['alone'].sum()


def test_counts_pay_what_they_pay_one_symbol_after_another():
  setting = SMALL._replace(x_rows=5, y_rows=4)
  found = joint_cipher.counted(2, setting)
  _, tokens = joint_cipher._text(2, setting, 9)
  x, plain = tokens[:5], tokens[5:]

  def paid(before, text):
    counts, total = np.full((4, 3), 0.5), 0.0  # the last row is of first symbols
    for rows, charged in ((before, False), (text, True)):
      for row in rows:
        for last, symbol in zip([3, *row[:-1]], row, strict=True):
          total -= charged * math.log2(counts[last, symbol] / counts[last].sum())
          counts[last, symbol] += 1
    return total

  assert found['counted alone'] == pytest.approx(paid(x[:0], plain))
  assert found['counted known'] == pytest.approx(paid(x, plain))
  y = np.array([1, 2, 0])[plain]  # whatever the key is, the mixture over all is the same
  every = [paid(x, np.array(key)[y]) for key in itertools.permutations(range(3))]
  assert found['counted keys'] == pytest.approx(-np.log2(np.mean(2.0 ** -np.array(every))))


# The judge.


def _records(saved, late=0.0, noise=5.0, seeds=5, rng=None, backwards=1800.0, counted=2500.0):
  """Above 27,000 bits with the key: 3,000 from nothing, 2,000 after an unrelated text and, after X,
  what is left of them when X alone saves the share `saved`. `late`: what is left in the last
  quarter, as a share of all that is left. `counted`: counts from nothing."""
  rng, rows, count = rng or np.random.default_rng(0), [], 40
  quarter = np.arange(count) >= 30
  for s in range(seeds):
    of = {'source': 'markov', 'seed': s}
    known = np.full(count, 27_000 / count) + 100 * s / count

    def above(bits, late, known=known):
      bits += noise * rng.normal()
      return known + bits * np.where(quarter, late / 10, (1 - late) / 30)

    each = {KNOWN: known, ALONE: above(3000.0, 0.25), UNRELATED: above(2000.0, 0.25)}
    each |= {UNKNOWN: above(2000.0 * (1 - saved), late), BACKWARDS: above(backwards, 0.25)}
    each[EXACT] = known * 0.9
    rows += [
      {**of, 'measure': m, 'value': x.sum(), 'each': base.packed(x)} for m, x in each.items()
    ]
    rows.append({**of, 'measure': KEY, 'value': 15.3})
    counts = known.sum() + np.array([counted, counted - 240, counted - 225])
    rows += [{**of, 'measure': m, 'value': x} for m, x in zip(COUNTED, counts, strict=True)]
  return pd.DataFrame(rows)


@pytest.mark.parametrize(
  'saved, late, noise, backwards, outcome',
  [
    (0.99, 0.0, 5.0, 1800.0, base.HOLDS),
    (0.0, 0.25, 5.0, 1800.0, base.FAILS),  # the null: X does what an unrelated text does
    (0.3, 0.25, 5.0, 1800.0, base.FAILS),
    (-0.3, 0.25, 5.0, 1800.0, base.FAILS),
    (0.3, 0.0, 5.0, 1800.0, base.DEPENDS),
    (0.65, 0.25, 5.0, 1800.0, base.INDISTINCT),
    (0.8, 0.25, 300.0, 1800.0, base.INDISTINCT),
    # Frequencies, which X backwards has too, are no key.
    (0.95, 0.0, 5.0, 90.0, base.INDISTINCT),
    (0.3, 0.0, 5.0, 1300.0, base.FAILS),
  ],
)
def test_each_outcome(saved, late, noise, backwards, outcome):
  records = _records(saved, late, noise, backwards=backwards)
  verdict = claim.judge(records)
  assert verdict.outcome == outcome, verdict.text
  assert verdict.number == pytest.approx(100 * saved, abs=1 + noise / 15)
  assert claim.ideal(records) == pytest.approx(1 - 15.3 / 2000, abs=1e-3)
  assert len(claim.figure(records).axes) == 1


def test_whoever_begins_anew_pays_no_more_than_from_nothing():
  records = _records(-3.0, 0.25)
  assert claim.share(records).mean == pytest.approx(-0.5, abs=0.02)  # 3,000 in place of 2,000
  for _, row in claim.totals(records).iterrows():
    assert row['joint'] == pytest.approx(lengths.either(row[UNKNOWN], row[ALONE]), abs=1e-6)
    assert row['control'] == pytest.approx(lengths.either(row[UNRELATED], row[ALONE]), abs=1e-6)
  equal = pd.Series([5.0])
  assert claim._either(equal, equal).item() == pytest.approx(5.0)


def test_a_compressor_that_counts_beat_can_not_fail_the_statement():
  verdict = claim.judge(_records(0.0, 0.25, counted=-440.0))
  assert verdict.outcome == base.CANT and '440' in verdict.text
  assert verdict.number == pytest.approx(0, abs=1)
  assert claim.judge(_records(0.99, counted=-440.0)).outcome == base.HOLDS
  assert claim.judge(_records(0.3, 0.0, counted=-440.0)).outcome == base.DEPENDS


def test_few_chains_decide_nothing():
  assert claim.judge(_records(0.9, seeds=4)).outcome == base.CANT


@pytest.mark.parametrize(
  'saved, noise, wrong',
  [(0.8, 150.0, base.HOLDS), (0.5, 150.0, base.FAILS), (0.0, 600.0, base.HOLDS)],
)
def test_false_verdicts_are_rare(saved, noise, wrong):
  world = functools.partial(_records, saved, 0.25, noise)
  assert nulls.shares(claim.judge, lambda rng: world(rng=rng))[wrong] <= nulls.MOST
