"""What a report says of differences: which pairs are tested, and why the others are not."""

import io
import json
import pathlib

import numpy as np
import pytest
from records import assemble, make_record, render, write_comparison, write_run
import scipy.stats

from reports import differences, markdown, pairs, predictions, terminal

SUBSETS = 'the training set is too small for disjoint subsets of 100 labels'


def write(top: pathlib.Path, seeds: dict[str, range], **changes) -> pathlib.Path:
  for objective, chosen in seeds.items():
    for seed in chosen:
      write_run(top, make_record(objective, seed, **changes))
  return top


def said(results: dict) -> str:
  """The terminal's text in one line; the page says the same."""
  text = ' '.join(terminal.terminal_table(results).split())
  page = ' '.join(render(results).replace('&#39;', "'").split())
  for line in (v['verdict'] for v in results['verdicts']):
    assert line.replace('>', '&gt;') in page
  return text


def change(run: pathlib.Path, **cell) -> None:
  record = json.loads((run / 'run.json').read_text())
  record['probes']['linear']['100'] |= cell
  (run / 'run.json').write_text(json.dumps(record))


def run_of(top: pathlib.Path, objective: str, seed: int) -> pathlib.Path:
  (path,) = top.glob(f'runs/{objective}-{seed}-*')
  return path


def test_a_pair_that_was_not_tested_is_never_called_alike(tmp_path):
  """Five seeds of two objectives, four of a third: only the pair of five is tested."""
  write(tmp_path, {'autoregressive': range(5), 'masked': range(5), 'masked_diffusion': range(4)})
  results = assemble(tmp_path)
  by_pair = {(v['first'], v['second']): v for v in results['verdicts']}
  reason = 'fewer than 5 seeds in common'
  untested = [v for v in by_pair.values() if 'masked_diffusion' in (v['first'], v['second'])]
  assert [(v['seeds'], v['p'], v['p_holm'], v['reason']) for v in untested] == [
    (4, None, None, reason)
  ] * 2
  assert f'autoregressive and masked_diffusion: not tested: {reason}' in said(results)
  assert by_pair['autoregressive', 'masked']['p'] is not None
  for found in results['indistinct']:
    assert found['tested'] == (found['reason'] is None)
    if any('masked_diffusion' in pair for pair in found['pairs']):
      assert not found['tested']
  assert 'masked_diffusion can not be told apart' not in said(results)


def test_another_size_without_the_seeds_is_not_called_alike(tmp_path):
  write(tmp_path, {'autoregressive': range(5), 'masked': range(5)})
  small = {'size': 'micro', 'parameters_backbone': 100}
  for objective in ('autoregressive', 'masked'):
    for seed in range(2):
      probes = make_record('masked', seed)['probes']  # Of either: ranges overlap.
      write_run(
        tmp_path, make_record(objective, seed, probes=probes, **small), f'micro-{objective}-{seed}'
      )
  results = assemble(tmp_path)
  by_size = {v['size']: v for v in results['verdicts']}
  assert by_size['nano']['p'] is not None and by_size['micro']['p'] is None
  text = said(results)
  assert 'micro: autoregressive and masked: not tested: fewer than 5 seeds' in text
  of_micro = (
    'Micro: on the linear probe at 100 labels, autoregressive and masked: not tested (fewer'
  )
  assert of_micro in text


def test_the_family_is_all_tested_pairs_of_trained_objectives_of_every_size(tmp_path):
  """One p of each of two sizes: Holm doubles the smaller; controls count for nothing."""
  write_comparison(tmp_path, seeds=5, size='nano')
  for run in tmp_path.glob('runs/masked_diffusion-*'):
    change(run, accuracy=None)
  for objective in ('autoregressive', 'masked', 'untrained'):
    for seed in range(5):
      record = make_record(objective, seed, size='micro', parameters_backbone=100)
      write_run(tmp_path, record, f'micro-{objective}-{seed}')
  tested = [v for v in assemble(tmp_path)['verdicts'] if v['p'] is not None]
  family = sorted((v for v in tested if not v['control']), key=lambda v: v['p'])
  assert {v['size'] for v in family} == {'nano', 'micro'} and len(family) == 2 and len(tested) == 6
  assert family[0]['p_holm'] == pytest.approx(min(1, 2 * family[0]['p']))


def test_the_real_cause_is_said_where_there_is_no_verdict(tmp_path):
  """Runs without the primary measure, of ever so many seeds."""
  for seed in range(6):
    for objective in ('autoregressive', 'masked'):
      record = make_record(objective, seed)
      record['probes']['linear'] = {'all': record['probes']['linear']['all']}
      write_run(tmp_path, record)
  results = assemble(tmp_path)
  assert results['verdicts'] == []
  cause = 'No verdicts: no run has the primary measure, the linear probe at 100 labels.'
  assert cause in said(results) and cause in render(results)
  assert 'fewer than 5' not in said(results)
  on_all = results['indistinct'][0]
  assert not on_all['tested'] and 'only the linear probe at 100 labels is' in on_all['reason']
  text = write(tmp_path / 'text', {'autoregressive': range(2)}, probes={}, classes=None)
  assert 'No verdicts: there are no labels to probe.' in said(assemble(text))
  one = assemble(write(tmp_path / 'one', {'masked': range(5)}))
  assert one['no_verdicts'] == 'there are no two trained objectives of one size that saw no labels'


def test_an_objective_without_the_measure_is_named(tmp_path):
  write(tmp_path, {'autoregressive': range(5), 'masked': range(5)})
  for seed in range(5):
    record = make_record('masked_diffusion', seed)
    del record['probes']['linear']['100']
    write_run(tmp_path, record)
  text = said(assemble(tmp_path))
  reason = 'not tested: masked_diffusion without the linear probe at 100 labels'
  assert f'autoregressive and masked_diffusion: {reason}' in text
  for seed in range(2):  # Five seeds in common, but three of them with the measure.
    change(run_of(tmp_path, 'masked', seed), accuracy=None)
  reason = 'fewer than 5 seeds in common that have the linear probe at 100 labels'
  assert assemble(tmp_path)['no_verdicts'].endswith(f'; {reason}')


@pytest.mark.parametrize(
  'case', ['absent', 'no predictions', 'others', 'older', 'examples', 'labels']
)
def test_without_predictions_of_every_run_there_is_no_verdict(tmp_path, case):
  write(tmp_path, {'autoregressive': range(5), 'masked': range(5)})
  run = run_of(tmp_path, 'masked', 3)
  with np.load(run / 'arrays.npz') as arrays:
    arrays = dict(arrays)
  reason = 'no predictions are saved with seed 3 of masked'
  if case == 'absent':
    (run / 'arrays.npz').unlink()
  elif case == 'no predictions':
    np.savez(run / 'arrays.npz', labels=arrays['labels'])
  elif case == 'others':
    change(run, accuracy=0.5)
    reason = 'the predictions saved with seed 3 of masked are not those of its record'
  elif case == 'older':
    change(run, subsets=None)
    reason = 'masked was probed with the same labels for every seed'
  elif case == 'examples':
    moved = {name: np.roll(values, 1, -1) for name, values in arrays.items()}
    np.savez(run / 'arrays.npz', **moved)
    reason = 'they were not tested on the same examples'
  else:
    change(run, subsets=[0, 1, 2])
    reason = 'they were probed with different labels'
  results = assemble(tmp_path)
  assert results['verdicts'] == [] and results['no_verdicts'].startswith(reason)
  assert f'No verdicts: {reason}' in said(results)


@pytest.mark.parametrize('damage', ['compressed', 'cut', 'empty', 'method', 'no zip'])
def test_damaged_predictions_cost_a_verdict_and_no_report(tmp_path, damage):
  write(tmp_path, {'autoregressive': range(5), 'masked': range(5)})
  path = run_of(tmp_path, 'masked', 3) / 'arrays.npz'
  with np.load(path) as arrays:
    np.savez_compressed(path, **arrays)
  content = bytearray(path.read_bytes())
  if damage == 'compressed':
    content[len(content) // 2] ^= 255
  elif damage == 'cut':
    del content[300:]
  elif damage == 'empty':
    content.clear()
  elif damage == 'method':
    content[content.find(b'PK\x01\x02') + 10] = 99  # In the directory: how the first is packed.
  else:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    content = buffer.getvalue()
  path.write_bytes(content)
  results = assemble(tmp_path)
  assert results['no_verdicts'].startswith('no predictions are saved with seed 3 of masked')


def test_labels_of_another_deal_are_other_labels(tmp_path):
  """Subsets have the same numbers under every seed of evaluation, and other labels."""
  for seed in range(5):
    for dealt, objective in enumerate(('autoregressive', 'masked')):
      record = make_record(objective, seed)
      record['settings_of_results'] = {'evaluation': {'seed': dealt, 'draws': 64}}
      write_run(tmp_path, record)
  results = assemble(tmp_path)
  assert results['no_verdicts'] == 'they were probed with different labels'
  told = 'the runs differ in evaluation.seed: 0 (autoregressive); 1 (masked)'
  assert results['notes'].count(told) == 1


def test_a_verdict_of_fewer_seeds_than_the_table_says_its_own_means(tmp_path):
  write(tmp_path, {'autoregressive': range(7), 'masked': range(5)})
  results = assemble(tmp_path)
  (verdict,) = results['verdicts']
  assert verdict['seeds'] == 5 and verdict['alone']
  common = {
    name: np.mean([
      run['probes']['linear']['100']['accuracy']
      for run in results['runs'] if run['objective'] == name and run['seed'] < 5
    ])
    for name in ('autoregressive', 'masked')
  }  # fmt: skip
  assert verdict['means'] == pytest.approx(list(common.values()))
  assert verdict['difference'] == pytest.approx(common['autoregressive'] - common['masked'])
  shown = ' and '.join(f'{100 * mean:.1f}' for mean in common.values())
  assert f'5 seeds (means of these: {shown}; the table has all that there are)' in said(results)


def test_one_difference_for_all_seeds_is_no_verdict(tmp_path):
  """The same run five times under two names: its difference has no spread, so p is not 0."""
  for objective, base in (('autoregressive', 0.8), ('masked', 0.7)):
    for seed in range(5):
      record = make_record(objective, seed)
      record['probes']['linear']['100'] |= {'accuracy': base, 'draws': [base] * 3}
      write_run(tmp_path, record)
  results = assemble(tmp_path)
  assert results['verdicts'] == [] and 'the same every time' in results['no_verdicts']


def test_labels_that_seeds_share_are_told(tmp_path):
  results = assemble(write(tmp_path, {'autoregressive': range(5), 'masked': range(5)}))
  assert SUBSETS not in said(results)
  for run in tmp_path.glob('runs/*'):
    change(run, disjoint=11)  # Subsets 0 to 10 are of one deal, 11 to 14 of the next.
  assert SUBSETS in said(assemble(tmp_path))


def test_runs_share_labels_only_across_deals_or_by_number():
  def right(*subsets):
    return predictions.Right(np.zeros(1), np.zeros(1), subsets, 6)

  assert not predictions.share_labels([right(0, 1, 2), right(3, 4, 5)])
  assert predictions.share_labels([right(3, 4, 5), right(6, 7, 8)])
  assert predictions.share_labels([right(0, 1), right(1, 2)])


def test_the_raw_inputs_few_labels_are_told(tmp_path):
  text = said(assemble(write_comparison(tmp_path)))
  assert 'The raw input has no pretraining seed: its few labels are those of seed 0.' in text


def test_attentive_pooling_and_exact_bits_have_verdicts_of_their_own(tmp_path):
  """Means and intervals derived here from what each test example contributes."""
  seeds, rng = 5, np.random.default_rng(3)
  bits, right = {}, {}
  for objective in ('autoregressive', 'masked_diffusion', 'masked'):
    for seed in range(seeds):
      nats = (
        64 * np.log(2) * (1.8 + 0.1 * (objective != 'autoregressive') + rng.normal(0, 0.2, 500))
      )
      correct = rng.random(500) < (0.9 if objective == 'autoregressive' else 0.7)
      bits[objective, seed], right[objective, seed] = nats / (64 * np.log(2)), correct
      record = make_record(objective, seed)
      record['probes']['attentive'] = {'all': {'accuracy': float(correct.mean())}}
      cell, name = record, 'nats'
      if objective == 'masked_diffusion':
        cell, name = {'code': 'exact'}, 'also/chain rule/nats'
        record['also'] = {'chain rule': cell}
      if objective != 'masked':
        cell['bits_per_dim'] = float(bits[objective, seed].mean())
      path = write_run(tmp_path, record)
      with np.load(path / 'arrays.npz') as arrays:
        kept = dict(arrays)
      labels = kept['labels']
      kept['attentive/all/predictions'] = np.where(correct, labels, (labels + 1) % 10)
      np.savez(path / 'arrays.npz', **kept, **({name: nats} if objective != 'masked' else {}))
  results = assemble(tmp_path)
  attentive, exact = results['beside']
  assert [len(one['verdicts']) for one in (attentive, exact)] == [3, 1]  # masked has no exact code
  for found, values in ((exact['verdicts'][0], bits), (attentive['verdicts'][1], right)):
    first, second = found['first'], found['second']
    difference = np.array(
      [values[first, seed].astype(float) - values[second, seed] for seed in range(seeds)]
    )
    a, b = difference.mean(1).var(ddof=1) / seeds, difference.mean(0).var(ddof=1) / 500
    assert found['difference'] == pytest.approx(difference.mean())
    half = np.hypot(*(scipy.stats.t.ppf(0.975, [seeds - 1, 499]) * np.sqrt([a, b])))
    assert found['half_width'] == pytest.approx(half)
  assert 'masked_diffusion longer than autoregressive by 0.09' in exact['verdicts'][0]['verdict']
  assert 'bits, 5 seeds' in exact['verdicts'][0]['verdict']
  text = said(results)
  for other in results['beside']:
    for one in other['verdicts']:
      assert one['verdict'] in text


def test_nats_of_another_record_give_no_verdict_on_bits(tmp_path):
  for objective in ('autoregressive', 'masked_diffusion'):
    for seed in range(5):
      record = make_record(objective, seed, code='exact', bits_per_dim=1.9)
      path = write_run(tmp_path, record)
      off = 1.01 if (objective, seed) == ('autoregressive', 3) else 1.0
      with np.load(path / 'arrays.npz') as arrays:
        np.savez(path / 'arrays.npz', **arrays, nats=np.full(500, off * 1.9 * 64 * np.log(2)))
  runs = assemble(tmp_path)['runs']
  (found,) = differences.verdicts(runs, predictions.BESIDE[1])
  assert found['p'] is None
  assert 'not of its record' in found['reason']


def test_exact_bits_of_some_test_examples_are_compared_on_those(tmp_path):
  """Rows that the chain rule left out cost autoregression three bits more, which count nowhere."""
  rng = np.random.default_rng(5)
  rows, own, chain = np.sort(rng.choice(500, 120, replace=False)), [], []
  for seed in range(5):
    nats = 64 * np.log(2) * (1.8 + rng.normal(0, 0.2, 500))
    nats += 64 * np.log(2) * 3 * ~np.isin(np.arange(500), rows)
    some = nats[rows] + 64 * np.log(2) * (0.15 + rng.normal(0, 0.02, 120))
    records = {
      'autoregressive': {'bits_per_dim': float(nats.mean() / 64 / np.log(2))},
      'masked_diffusion': {
        'also': {
          'chain rule': {'code': 'exact', 'bits_per_dim': float(some.mean() / 64 / np.log(2))}
        }
      },
    }
    records['masked_diffusion']['also']['chain rule'] |= {'examples': 120}
    saved = {'autoregressive': {'nats': nats}}
    saved['masked_diffusion'] = {'also/chain rule/nats': some, 'also/chain rule/rows': rows}
    for objective, fields in records.items():
      path = write_run(tmp_path, make_record(objective, seed, **fields))
      with np.load(path / 'arrays.npz') as arrays:
        np.savez(path / 'arrays.npz', **arrays, **saved[objective])
    own.append(nats[rows] / (64 * np.log(2)))
    chain.append(some / (64 * np.log(2)))
  results = assemble(tmp_path)
  (exact,) = results['beside']
  (found,) = exact['verdicts']
  difference = np.array(own) - np.array(chain)
  assert found['examples'] == 120 and found['difference'] == pytest.approx(difference.mean())
  assert found['means'] == pytest.approx([np.mean(own), np.mean(chain)])
  a, b = difference.mean(1).var(ddof=1) / 5, difference.mean(0).var(ddof=1) / 120
  half = np.hypot(*(scipy.stats.t.ppf(0.975, [4, 119]) * np.sqrt([a, b])))
  assert found['half_width'] == pytest.approx(half)
  assert 'masked_diffusion longer than autoregressive by 0.1498 ' in found['verdict']
  assert '5 seeds, 120 test examples (means of these: 1.' in found['verdict']
  assert 'by chain rule, 120 test examples' in said(results)
  assert 'by chain rule, 120 test examples' in markdown.text(results)
  (row,) = pairs.rows(exact['verdicts'], exact['measure'])
  assert row[4] == '5†' and row[6] == 'second longer than first'
  note = '†: over 120 test examples, those that both codes are of.'
  assert note in pairs.notes(exact['verdicts'], exact['measure'])


@pytest.mark.parametrize(
  'rows,reason',
  [
    ((range(40), range(40, 80)), 'they were not tested on the same examples'),
    ((range(40), range(34, 80)), 'they were not tested on the same examples'),
    ((range(40), range(39, 80)), 'they were not tested on the same examples'),
    (([7], [7]), 'one test example says nothing of others'),
    ((range(40), range(30)), None),
  ],
)
def test_exact_bits_of_other_test_examples_are_not_compared(tmp_path, rows, reason):
  """What two draws of test examples have in common is an accident, and may be nothing."""
  rng = np.random.default_rng(5)
  for objective, own in zip(('masked', 'masked_diffusion'), rows, strict=True):
    for seed in range(5):
      nats = 64 * np.log(2) * (1.8 + rng.normal(0, 0.2, len(own)))
      cell = {'code': 'exact', 'bits_per_dim': float(nats.mean() / 64 / np.log(2))}
      record = make_record(objective, seed, also={'chain rule': cell | {'examples': len(own)}})
      path = write_run(tmp_path, record)
      with np.load(path / 'arrays.npz') as arrays:
        saved = {'also/chain rule/nats': nats, 'also/chain rule/rows': np.array(own)}
        np.savez(path / 'arrays.npz', **arrays, **saved)
  results = assemble(tmp_path)
  (found,) = results['beside'][0]['verdicts']
  assert found['reason'] == reason and (found['p'] is None) == (reason is not None)
  assert reason is None or f'not tested: {reason}' in said(results)
  assert found['examples'] == (None if reason else 30)


def test_the_raw_input_is_a_control_with_the_labels_of_every_seed(tmp_path):
  """Its predictions are paired with those of the runs of the same seed."""
  write(tmp_path, {'autoregressive': range(5), 'masked': range(5)})
  rng, by_seed, right = np.random.default_rng(11), {}, []
  labels = np.arange(500) % 10
  for seed in range(5):
    correct = rng.random((3, 500)) < 0.6
    right.append(correct.mean(0))
    by_seed[seed] = {'100': {'accuracy': float(correct.mean()), 'disjoint': 60}}
    by_seed[seed]['100'] |= {'subsets': [3 * seed + draw for draw in range(3)]}
    where = tmp_path / 'controls' / f'seed{seed}'
    where.mkdir(parents=True)
    predictions = np.where(correct, labels, (labels + 1) % 10)
    np.savez(where / 'arrays.npz', labels=labels, **{'linear/100/predictions': predictions})
  controls = {'raw': {'linear': {'100': by_seed[0]['100']}}, 'raw_by_seed': by_seed}
  (tmp_path / 'controls.json').write_text(json.dumps(controls))
  results = assemble(tmp_path)
  (found,) = [
    v for v in results['verdicts'] if (v['first'], v['second']) == ('masked', 'raw input')
  ]
  mine = []
  for seed in range(5):
    with np.load(run_of(tmp_path, 'masked', seed) / 'arrays.npz') as arrays:
      mine.append((arrays['linear/100/predictions'] == arrays['labels']).mean(0))
  difference = np.array(mine) - np.array(right)
  a, b = difference.mean(1).var(ddof=1) / 5, difference.mean(0).var(ddof=1) / 500
  assert found['difference'] == pytest.approx(difference.mean())
  half = np.hypot(*(scipy.stats.t.ppf(0.975, [4, 499]) * np.sqrt([a, b])))
  assert found['half_width'] == pytest.approx(half)
  assert found['control'] and found['p_holm'] is None
  assert 'masked minus raw input (control): +' in said(results)
  assert 'its few labels are those of each of the 5 seeds' in said(results)


def test_probes_of_unlike_numbers_of_labels_are_not_compared():
  some = [predictions.Right(np.ones(3), np.arange(3), (), 1, taught=n) for n in (100, 100, 200)]
  assert predictions.unpaired(some[:1], some[1:2]) is None
  assert predictions.unpaired(some[:1], some[2:]).endswith('with different numbers of labels')
