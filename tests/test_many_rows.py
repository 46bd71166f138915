"""Reports of many variants: nothing is written over anything, and pairs are a table."""

import itertools

import numpy as np
import pytest
from records import assemble, make_record, render, write_run

from reports import canvas, figures, markdown, pairs, terminal, wording

RATIOS = (0.1, 0.15, 0.2, 0.3, 0.4)


@pytest.fixture(scope='module', name='many')
def many_rows(tmp_path_factory) -> dict:
  """Eight trained objectives, all with a code, and a control: five seeds, but of one only four."""
  top = tmp_path_factory.mktemp('many')
  for seed in range(5):
    for place, ratio in enumerate(RATIOS):
      # A variant is as good as it is late; predictions are then made to fit.
      record = make_record('masked', seed, variant=f'ratio={ratio}', code='exact')
      record |= {'bits_per_dim': 2.0 + 0.1 * place + 0.01 * seed}
      write_run(top, record, f'masked-{ratio}-{seed}')
    for objective in ('autoregressive', 'masked_diffusion', 'untrained'):
      write_run(top, make_record(objective, seed))
    if seed < 4:
      record = make_record('autoregressive', seed, variant='input_mask=0.15')
      write_run(top, record, f'input-mask-{seed}')
  return assemble(top)


def test_every_pair_of_eight_has_a_row_with_its_numbers(many):
  verdicts = many['verdicts']
  trained = [one for one in verdicts if not one['control']]
  names = {e['objective'] for e in many['summary'] if e['trained']}
  assert {frozenset((v['first'], v['second'])) for v in trained} == set(
    map(frozenset, itertools.combinations(names, 2))
  )
  assert len(trained) == 28
  page, text = render(many), terminal.terminal_table(many)
  assert max(map(len, text.split('\n'))) <= 100
  rows = pairs.rows(verdicts, 'the linear probe at 100 labels')
  for verdict, row in zip(verdicts, rows, strict=True):
    cells = dict(zip(pairs.HEAD, row, strict=True))
    assert (cells['first'], cells['second']) == (verdict['first'], verdict['second'])
    shown = ''.join(f'<td>{cell}</td>' for cell in row[2:6]).replace('<', '&lt;')
    assert shown.replace('&lt;td>', '<td>').replace('&lt;/td>', '</td>') in page
    if 'input_mask' in verdict['first'] + verdict['second']:
      assert cells['verdict'] == 'not tested (a)' and cells['difference'] == ''
      continue
    middle, half = 100 * verdict['difference'], 100 * verdict['half_width']
    assert cells['difference'] == f'{middle:+.1f}'
    assert cells['95 % interval'] == f'{middle - half:+.1f} to {middle + half:+.1f}'
    if verdict['control']:
      assert (cells['p, Holm'], cells['verdict']) == ('', 'control')
      continue
    apart = verdict['p_holm'] <= 0.05
    side = ('first > second' if middle > 0 else 'second > first') if apart else None
    assert cells['verdict'] == (side or 'not distinguishable')
    told = float(cells['p, Holm'].removeprefix('< '))
    assert told == pytest.approx(verdict['p_holm'], rel=0.06, abs=1e-4)
  assert '(a) not tested: fewer than 5 seeds in common.' in page and '(a) not tested' in text
  assert not any(one['verdict'] in page for one in trained)  # No sentence a pair beside it.


def test_few_pairs_are_sentences_and_a_long_name_keeps_both_ends():
  assert not pairs.are_many([{}] * 8) and pairs.are_many([{}] * 9)
  assert pairs.shortened('block_diffusion block=2', 21) == 'block_di…sion block=2'
  assert pairs.shortened('masked', 21) == 'masked'


def test_many_pairs_that_nobody_tested_are_one_sentence(many):
  entry = {'measure': 'exact bits', 'size': 'nano', 'objectives': list('abcdefgh'),
           'replicates': 3, 'tested': False, 'reason': 'why'}  # fmt: skip
  some = [list(pair) for pair in itertools.combinations('abcdefgh', 2)]
  for count, expected in (
    (28, 'On exact bits, a, b, c, d, e, f, g and h: not tested (why), their ranges over seeds'),
    (20, 'On exact bits, 20 of the 28 pairs of 8 objectives: not tested (why), their ranges'),
    (2, 'On exact bits, a and b; a and c: not tested (why), their ranges'),
  ):
    found = many | {'indistinct': [entry | {'pairs': some[:count]}]}
    assert wording.indistinct_lines(found)[0].startswith(expected)


def test_numbers_stand_for_many_objectives_and_none_is_on_another(many):
  made = figures.bits_against_accuracy(many)
  left = made.axes[0]
  texts = {text.get_text(): text for text in left.texts if text.get_text().isdigit()}
  coded = [entry for entry in many['summary'] if entry['bits_per_dim'] is not None]
  assert set(texts) == {str(number) for number in range(1, len(coded) + 1)} and len(coded) == 8
  (legend,) = made.legends
  assert [text.get_text().split(' ')[1] for text in legend.get_texts()] == [
    entry['objective'].split(' ')[0] for entry in coded
  ]
  made.canvas.draw()
  boxes = [text.get_window_extent() for text in texts.values()]
  assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
  names = [text.get_text() for text in left.texts]
  assert not any('masked' in name for name in names)


@pytest.mark.parametrize('apart', [0.002, 1.0])
def test_two_names_that_would_lie_on_one_another_are_numbers(tmp_path, apart):
  probes = make_record('autoregressive', 0)['probes']
  for objective, bits in (
    ('autoregressive', 2.0), ('masked_diffusion', 2.0 + apart), ('masked', 4.0),
  ):  # fmt: skip
    record = make_record(objective, 0, code='exact', probes=probes)
    write_run(tmp_path, record | {'bits_per_dim': bits})
  left = figures.bits_against_accuracy(assemble(tmp_path)).axes[0]
  shown = [text.get_text() for text in left.texts]
  assert ('autoregressive' in shown) == (apart == 1.0) != ('1' in shown)


def test_a_measure_of_some_of_the_runs_says_of_how_many(tmp_path):
  for seed in range(5):
    record = make_record('autoregressive', seed)
    if seed < 2:
      record['probes'] |= {'finetune': {'100': {'accuracy': 0.2 + 0.1 * seed}}}
      record['probes'] |= {'attentive': {'all': {'accuracy': 0.5, 'rows': 1000 + 1000 * seed}}}
    write_run(tmp_path, record)
  results = assemble(tmp_path)
  text = markdown.text(results)
  assert '| 25.0 (range 20.0–30.0, 2 of 5 runs) |' in text
  assert '| attentive, %, n = 1,000 to 2,000 |' in text
  assert render(results).count('2 of 5 runs') == 2 and 'n = 1,000 to 2,000' in render(results)


def test_the_table_of_results_says_of_how_many_runs_a_number_is(tmp_path):
  for seed in range(5):
    record = make_record('masked_diffusion', seed)
    if seed < 2:
      record['also'] = {'chain rule': {'code': 'exact', 'bits_per_dim': 2.0 + 0.1 * seed}}
    else:
      del record['probes']['linear']['all']
    write_run(tmp_path, record)
  results = assemble(tmp_path)
  (entry,) = results['summary']
  ends = '–'.join(f'{100 * entry[f"linear_all_{end}"]:.1f}' for end in ('min', 'max'))
  for text in (markdown.text(results), render(results)):
    assert 'range 2.000–2.100, 2 of 5 runs' in text and f'range {ends}, 2 of 5 runs' in text
  text = terminal.terminal_table(results)
  assert 'also: 2.050 by chain rule, 2 of 5 runs' in text and f' {ends} of 2 ' in text
  assert max(map(len, text.split('\n'))) <= 100


def test_a_number_stands_where_there_is_room():
  around = [(0, 0), (100, 0), (0, 10), (5, 5), (0, -5)]
  which, offset = canvas.free_place([(0, 0), (100, 0)], around, 10)
  assert which == 1 and np.hypot(*offset) == pytest.approx(10, rel=0.02)
  # Above, unless that is taken.
  which, offset = canvas.free_place([(0, 0)], [(0, 0)], 10)
  assert (which, *offset) == (0, 0, 10)
  assert canvas.free_place([(0, 0)], [(0, 0), (0, 10)], 10)[1][1] < 10
