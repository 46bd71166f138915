"""The room of claims: plans become processes, rows become verdicts, verdicts become pages."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from claims import (
  CLAIMS,
  base,
  command,
  headline,
  judging,
  pilots,
  publishing,
  records,
  running,
  sets,
)
from claims.base import Claim, Piece, Plan, Verdict
from claims.statements import STATEMENTS
from reports import canvas
from reports.errors import ReportError
from runs import checks, configs, experiment
from runs.errors import UserError

ROOT = pathlib.Path(__file__).parent.parent


def _plan(budget: str) -> Plan:
  made = tuple(
    sets.digits(objective, seed, budget, width=64)
    for objective in ('autoregressive', 'untrained')
    for seed in base.seeds(budget)
  )
  return Plan(made[:2], (Piece('squares', _squares, {'of': (2, 3)}, made[:1]),))


def _squares(work, of):
  for number in of:
    yield {'measure': 'square', 'value': number**2, 'seed': work.runs[0].record['seed']}


def _judge(found: pd.DataFrame) -> Verdict:
  squares = judging.rows(found, measure='square')['value']
  number = float(squares.sum())
  return Verdict(base.HOLDS, number, (number - 1, number + 1), 'units', 'Found.', 'Else.')


def _figure(found: pd.DataFrame):
  made = canvas.blank(3, 2)
  made.subplots().plot(found['value'])
  return made


FAKE = Claim(
  number=33, statement='A statement & more.', source='a part', plan=_plan, judge=_judge,
  figure=_figure, threshold='a threshold', looked_at='nothing', pod='a command',
  read=lambda run: [{'measure': 'bits', 'value': run.record['bits_per_dim']}],
)  # fmt: skip


def _pretend(specs, places, **record):
  """Finished runs that nobody trained."""
  for spec in specs:
    where = pathlib.Path(running.planned_run(spec, places).workdir)
    where.mkdir(parents=True, exist_ok=True)
    content = {
      'schema': 1,
      'code': 'exact',
      'objective': 'masked',
      'seed': spec.seed,
      'bits_per_dim': 0.1 + spec.seed,
      'wall_seconds': 2.0,
      'git': 'a',
    }
    (where / 'run.json').write_text(json.dumps(content | record))


@pytest.fixture
def places(tmp_path):
  return running.Places(str(tmp_path / 'work'), str(tmp_path / 'data'), 'quick')


def test_the_theory_has_33_statements_and_claims_are_files_of_their_names():
  assert list(STATEMENTS) == list(range(1, 34))
  assert len({name for name, _ in STATEMENTS.values()}) == 33
  for number, claim in CLAIMS.items():
    assert claim.number == number and claim.plan.__module__ == f'claims.{claim.name}'
    for text in (claim.statement, claim.source, claim.threshold, claim.looked_at):
      assert text.endswith('.'), (claim.name, text)


def test_plans_of_all_claims_can_be_planned_and_have_the_seeds_of_a_verdict(places):
  for claim in CLAIMS.values():
    for budget in base.BUDGETS:
      made = claim.plan(budget)
      assert made.runs or made.pieces, claim.name
      assert not made.runs or claim.read, claim.name
      there = dataclasses.replace(places, budget=budget)
      for spec in made.all_runs:
        running.planned_run(spec, there)
      names = [running.planned_piece(claim, piece, there).name for piece in made.pieces]
      assert len(set(names)) == len(names), claim.name
    seeds = {spec.seed for spec in made.all_runs}
    assert not seeds or (len(seeds) >= 5 and pilots.SEED not in seeds), claim.name


def test_objectives_of_all_plans_suit_their_data(places, data_dir):
  specs = [spec for claim in CLAIMS.values() for spec in claim.plan('quick').all_runs]
  specs += [pilots.pilot(name, o, 1e-3) for name, (_, names) in pilots.SETS.items() for o in names]
  kinds = {(spec.config, spec.objective): spec for spec in specs}
  assert ('hierarchy', 'masked') in kinds
  for spec in kinds.values():
    built = experiment.build(running.planned_run(spec, places).config, data_dir)
    checks.check_probes(built)


def test_one_setting_more_is_another_run_and_another_order_is_the_same(places):
  def where(**settings):
    spec = sets.hierarchy('masked', 1, 'quick', {f'model.{k}': v for k, v in settings.items()})
    return running.planned_run(spec, places)

  assert where(layers=2, heads=2).workdir == where(heads=2, layers=2).workdir
  assert where(layers=2).workdir != where().workdir
  config = where().config
  assert config.data.grammar_seed == config.probe_data.grammar_seed == config.training.seed == 1
  assert config.data.examples == 0 and config.probe_data.examples == 2000
  tagged, plain = (sets.digits('masked', 0, 'full', **tags) for tags in ({'width': 64}, {}))
  assert tagged.columns['width'] == 64
  assert running.planned_run(tagged, places).workdir == running.planned_run(plain, places).workdir
  with pytest.raises(UserError, match='no_such'):
    where(no_such=1)


def test_a_rate_is_the_tuned_one_unless_it_is_asked_for(places, monkeypatch):
  monkeypatch.setattr(sets, 'RATES', {('digits', 'masked'): 3e-3})

  def rate(spec):
    return running.planned_run(spec, places).config.optimizer.learning_rate

  tuned, other = (sets.digits(name, 0, 'full') for name in ('masked', 'autoregressive'))
  asked = sets.digits('masked', 0, 'full', {'optimizer.learning_rate': 0.5})
  assert (rate(tuned), tuned.tuned) == (3e-3, True)
  assert (rate(other), other.tuned) == (2e-3, False)
  assert rate(asked) == 0.5
  assert sets.digits('untrained', 0, 'full').tuned


def test_rows_are_gathered_once_everything_is_there_and_read_back_the_same(places):
  made = FAKE.plan('quick')
  _pretend(made.all_runs[:1], places)
  with pytest.raises(UserError, match='2 runs and pieces are not there'):
    running.gather(FAKE, places)
  _pretend(made.all_runs, places)
  planned = running.planned_piece(FAKE, made.pieces[0], places)
  assert running.missing(FAKE, places) == [planned.name] and running.coded_piece(planned) is None
  with pytest.raises(UserError, match='no such piece'):
    running.run_piece(FAKE, 'another', places)
  running.run_piece(FAKE, planned.name, places)
  assert running.coded_piece(planned)
  path = running.gather(FAKE, places)
  found = records.read_csv(path)
  assert list(found['measure']) == ['bits', 'bits', 'square', 'square']
  assert list(found['value']) == [0.1, 1.1, 4, 9]
  assert list(found['seed']) == [0, 1, 0, 0] and list(found['width'][:2]) == [64, 64]
  assert found['width'][2:].isna().all() and found['objective'][0] == 'autoregressive'
  about = records.about(path)
  assert about['untuned'] == ['digits: autoregressive'] or about['untuned'] == []
  assert (about['runs'], about['training_seconds'], about['git']) == (2, 4, ['a'])
  changed = dataclasses.replace(made.pieces[0], settings={'of': (2, 4)})
  assert running.planned_piece(FAKE, changed, places).name != planned.name


def test_csv_keeps_every_digit(tmp_path):
  rows = [{'value': 0.1 + 0.2, 'seed': 1, 'name': 'a, "b"'}, {'value': 1e-300, 'each': '1 0.5'}]
  path = tmp_path / 'rows.csv'
  records.write(path, records.to_csv(rows))
  found = records.read_csv(path)
  assert list(found['value']) == [0.1 + 0.2, 1e-300] and found['name'][0] == 'a, "b"'
  assert base.unpacked(found['each'][1]).tolist() == [1, 0.5]
  assert base.packed([1, 1 / 3]) == '1 0.33333'
  with pytest.raises(ReportError, match='absent'):
    records.read_csv(tmp_path / 'absent.csv')
  records.write(path, records.to_csv([]))
  assert records.read_csv(path).empty


def test_lines_say_how_long_the_rest_will_take(monkeypatch):
  now = iter([0.0, 120.0, 240.0])
  monkeypatch.setattr(running.time, 'monotonic', lambda: next(now))
  planned = {str(k): running.PlannedPiece(f'p{k}', str(k), []) for k in range(4)}
  there = {'0'}
  line = running.timed(planned, lambda one: one.name if one.workdir in there else None)
  assert [line(one) for one in planned.values()] == ['p0', None, None, None]
  there |= {'1', '2'}
  assert line(planned['1']) == 'p1; 4 min left'
  assert line(planned['2']) == 'p2; 2 min left'


# Judges' tests.


def _measured(values_by_name):
  rows = [
    {'objective': name, 'seed': seed, 'measure': 'm', 'value': value}
    for name, values in values_by_name.items()
    for seed, value in enumerate(values)
  ]
  return pd.DataFrame(rows)


def test_paired_differences_are_those_of_scipy():
  rng = np.random.default_rng(0)
  found = _measured({'a': rng.normal(1, 1, 6), 'b': rng.normal(0, 1, 6)})
  a, b = (found[found['objective'] == name]['value'].to_numpy() for name in 'ab')
  test = judging.paired_where(found, {'objective': 'a'}, {'objective': 'b'}, measure='m')
  expected = scipy.stats.ttest_rel(a, b)
  interval = expected.confidence_interval()
  assert (test.mean, test.p) == pytest.approx(((a - b).mean(), expected.pvalue))
  assert test.interval == pytest.approx((interval.low, interval.high))
  assert test.above(test.low - 1e-9) and not test.above(test.low)
  assert test.below(test.high + 1e-9) and not test.below(test.high)
  assert test.inside(-9, 9) and not test.inside(test.mean, 9)
  alone = judging.mean(judging.by_seed(found, objective='a'))
  assert alone.p == pytest.approx(scipy.stats.ttest_1samp(a, 0).pvalue)
  low, high = sorted((test.p, alone.p))
  assert sorted(judging.adjusted([test, alone])) == pytest.approx([2 * low, max(2 * low, high)])


def test_pairs_are_of_common_seeds_and_too_few_decide_nothing():
  first, second = pd.Series([1.0, 2, 3], [0, 1, 2]), pd.Series([5.0, 1, 1], [9, 2, 1])
  test = judging.paired(first, second)
  assert (test.seeds, test.mean) == (2, 1.5)
  assert judging.short(test).outcome == base.CANT
  assert judging.paired(first, second[:1]).interval == (-np.inf, np.inf)
  same = judging.paired(pd.Series([1.0] * 5), pd.Series([0.0] * 5))
  assert judging.short(same) is None and same.interval == (1, 1) and same.p == 0


def test_crossed_differences_hold_the_examples_too():
  rng = np.random.default_rng(1)
  shares = rng.integers(0, 2, (2, 5, 40))
  sides = [
    pd.DataFrame([{'seed': s, 'each': base.packed(side[s])} for s in range(5)]) for side in shares
  ]
  test = judging.crossed(*sides)
  d = shares[0] - shares[1]
  error = np.hypot(d.mean(1).std(ddof=1) / 5**0.5, d.mean(0).std(ddof=1) / 40**0.5)
  assert test.mean == pytest.approx(d.mean())
  assert 1.9 * error < test.high - test.mean < 2.8 * error
  assert judging.crossed(sides[0], sides[1][:1]).seeds == 1


def test_intervals_of_several_leave_out_less_each_and_examples_are_used_where_there_are_any():
  rng = np.random.default_rng(2)
  sides = [
    pd.DataFrame([{'seed': s, 'value': v.mean(), 'each': base.packed(v)} for s, v in enumerate(x)])
    for x in rng.normal(0, 1, (2, 5, 30))
  ]
  assert judging.compared(*sides) == judging.crossed(*sides)
  plain = [side.drop(columns='each') for side in sides]
  values = [judging.by_seed(side) for side in plain]
  assert judging.compared(*plain) == judging.compared(sides[0], plain[1]) == judging.paired(*values)
  expected = scipy.stats.ttest_rel(*values).confidence_interval(1 - 0.01)
  found = judging.paired(*values, level=0.01)
  assert found.interval == pytest.approx((expected.low, expected.high))
  assert judging.crossed(*sides, level=0.01).low < judging.crossed(*sides).low


def test_a_verdict_has_a_known_outcome_and_finite_numbers():
  with pytest.raises(ValueError, match='an outcome is one of'):
    Verdict('perhaps', 1.0, None, '', '', '')
  with pytest.raises(ValueError, match='finite'):
    Verdict(base.HOLDS, 1.0, (0.0, np.inf), '', '', '')


# Pages and commands.


def test_a_quick_budget_says_no_verdict(capsys):
  verdict = _judge(_measured({'square': [1.0]}).assign(measure='square'))
  command.tell(FAKE, verdict, 'quick')
  out = capsys.readouterr().out
  assert 'quick: no verdict' in out and 'holds' not in out
  command.tell(FAKE, verdict, 'full')
  assert '33 shared_form: holds; 1 (0 to 2) units' in capsys.readouterr().out


def test_pages_have_every_row_and_the_committed_records_are_judged_again(tmp_path, places):
  folder = tmp_path / 'experiments' / 'results' / 'claims'
  assert {row['outcome'] for row in publishing.rows({}, folder)} == {'not written'}
  without = publishing.rows({33: FAKE}, folder)
  assert without[-1]['outcome'] == 'not run'
  assert '**not run.**' in publishing.render(without, 'claims.md')
  full = dataclasses.replace(places, budget='full')
  made = FAKE.plan('full')
  _pretend(made.all_runs, full)
  running.run_piece(FAKE, running.planned_piece(FAKE, made.pieces[0], full).name, full)
  publishing.commit(FAKE, running.gather(FAKE, full), folder)
  assert publishing.judged(FAKE, folder).number == 13
  (folder / f'{FAKE.name}.png').write_bytes(b'of an earlier judge')
  page, docs = (path.read_text() for path in publishing.publish({33: FAKE}, tmp_path))
  kept = records.committed(FAKE, folder)
  assert kept.with_suffix('.png').read_bytes() == publishing.picture(FAKE, kept)
  assert page.count('<tr><td>') == 33 and docs.count('\n| ') == 34
  assert 'A statement &amp; more.' in page and 'A statement & more.' in docs
  assert 'data:image/png;base64,' in page and 'claims/shared_form.png)' in docs
  for text in (page, docs):
    assert '13 (12 to 14) units' in text and '32 not written, 1 holds.' in text
  records.write(folder / 'quick.json', '{"budget": "quick"}')
  with pytest.raises(ValueError, match='not records of --budget=full'):
    publishing.commit(FAKE, folder / 'quick.csv', folder)


def test_records_that_can_not_be_judged_cost_only_their_claim(monkeypatch, places, capsys):
  full = dataclasses.replace(places, budget='full')
  broken = dataclasses.replace(
    FAKE, number=32, judge=lambda found: Verdict(base.HOLDS, np.nan, None, '', '', ''), plan=_none
  )
  fine = dataclasses.replace(FAKE, plan=_none, judge=lambda found: Verdict(
    base.HOLDS, 1.0, None, 'units', '', ''
  ), figure=lambda found: canvas.blank(2, 2))  # fmt: skip
  monkeypatch.setattr(records, 'COMMITTED', pathlib.Path(places.workdir))
  assert command.run([broken, fine], full, {}, 1) == 1
  out = capsys.readouterr().out
  assert '32 retellings: not judged:' in out and '33 shared_form: holds; 1 units' in out
  with pytest.raises(ValueError, match='finite'):
    publishing.commit(broken, running.gather(broken, full), pathlib.Path(places.workdir))
  assert not (pathlib.Path(places.workdir) / 'retellings.csv').exists()


def _none(budget: str) -> Plan:
  return Plan()


def test_the_page_of_docs_is_of_the_committed_records():
  made = publishing.rows(CLAIMS)
  assert publishing.render(made, 'claims.md') == (ROOT / 'docs' / 'claims.md').read_text()


def test_the_picture_shows_what_the_verdicts_say(tmp_path):
  found = headline.advantages(records.COMMITTED)
  assert len(found) == 5
  least = {
    19: min(found[f'{source}, masked'].mean for source in ('digits', 'hierarchy')),
    21: min(test.mean for name, test in found.items() if 'diffusion' in name),
  }
  for number, mean in least.items():
    assert publishing.judged(CLAIMS[number]).number == pytest.approx(100 * mean)
  assert headline.picture(tmp_path) is None
  assert headline.picture().startswith(b'\x89PNG') and (ROOT / 'docs' / 'claims.png').is_file()


def test_pilots_say_the_rate_of_the_lowest_validation_loss(places):
  for loss, (_, spec) in zip((3, 1, 2, 4), pilots.specs('digits', 'masked'), strict=True):
    _pretend([spec], places, validation={'loss': loss})
    config = running.planned_run(spec, places).config
    assert config.training.seed == spec.seed == pilots.SEED and config.training.steps == 800
  found = pilots.losses(places)
  assert found['learning_rate'].tolist() == [1e-3, 3e-3, 1e-2, 3e-2]
  assert found['validation_loss'].tolist() == [3, 1, 2, 4]
  assert sets.chosen(found) == {('digits', 'masked'): 3e-3}
  assert pilots.text(found) == 'digits masked: 0.003'
  assert pilots.text(found[:1]) == 'digits masked: 0.001 (at the edge of the grid)'


def test_claims_are_found_by_name_and_number():
  with pytest.raises(UserError, match='--claim=34: unknown'):
    command.find(['34'])
  with pytest.raises(UserError, match='--claim=nothing: unknown'):
    command.find(['nothing'])
  for claim in CLAIMS.values():
    assert command.find([str(claim.number), claim.name]) == [claim]


@pytest.mark.parametrize(
  'arguments, message',
  [
    ((), 'name claims'),
    (('--claim=noise_control',), '--workdir=DIR is needed'),
    (('--list', '--judge'), '--list and --judge are two things'),
    (('--publish', '--budget=quick'), 'no verdict'),
  ],
)
def test_mistakes_are_one_line(arguments, message):
  done = subprocess.run(
    [sys.executable, '-m', 'launch.claims', *arguments],
    cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True,
  )  # fmt: skip
  assert done.returncode == 2 and message in done.stderr and done.stderr.count('\n') == 1


def test_judging_needs_no_jax():
  program = (
    'import sys; from claims import CLAIMS, publishing, records\n'
    'made = publishing.rows(CLAIMS)\n'
    'print(len(made), "jax" in sys.modules)'
  )
  done = subprocess.run(
    [sys.executable, '-c', program],
    cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(ROOT)}, capture_output=True, text=True,
  )  # fmt: skip
  assert done.stdout.split() == ['33', 'False'], done.stderr


def test_a_finished_run_of_other_settings_is_refused(places):
  planned = running.planned_run(sets.digits('masked', 0, 'quick'), places)
  running.check_finished(planned)  # Nothing is there.
  _pretend([sets.digits('masked', 0, 'quick')], places)
  where = pathlib.Path(planned.workdir, 'config.json')

  def saved(change):
    config = configs.plain(planned.config)
    change(config)
    where.write_text(json.dumps({'config': config}))

  saved(lambda config: config['probe']['mlp'].update(hidden=3))
  running.check_finished(planned)  # It fits no MLP.
  for section, field in (('training', 'steps'), ('optimizer', 'beta2')):
    saved(lambda config, section=section, field=field: config[section].update({field: 0.5}))
    with pytest.raises(UserError, match=f'with {section}.{field} 0.5, now it is'):
      running.check_finished(planned)


def test_a_field_younger_than_a_run_does_not_move_it(places, monkeypatch):
  spec = sets.digits('masked', 0, 'quick')
  before = running.planned_run(spec, places).workdir
  load = running.configs.load

  def younger(path, objective, overrides):
    config = load(path, objective, overrides)
    with config.unlocked():
      config.training.new_field = 3
    return config

  monkeypatch.setattr(running.configs, 'load', younger)
  running.planned_run.cache_clear()
  assert running.planned_run(spec, places).workdir == before
  running.planned_run.cache_clear()


def test_every_set_was_tuned_over_the_grid():
  tried = pd.read_csv(sets.TRIED)
  every = {(name, one) for name, (_, all_) in pilots.SETS.items() for one in all_}
  assert every == set(sets.RATES)
  assert all(
    set(own.learning_rate) == set(pilots.GRID) for _, own in tried.groupby(['set', 'objective'])
  )
  assert sets.RATES['hierarchy', 'masked'] == 3e-3
