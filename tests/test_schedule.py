"""When evaluators run and checkpoints are saved."""

import dataclasses
import os

import jax
import numpy as np
import pytest
import tiny

from runs import evaluators, run
from runs.errors import UserError
from training import checkpoint, loop, metrics
from training import optimizer as optimizer_lib
from training import state as state_lib
from training.schedule import Schedule


def test_a_schedule_is_its_multiples_its_steps_and_the_end():
  def due(**settings) -> list[int]:
    return [step for step in range(11) if Schedule(**settings).due(step, 10)]

  assert due() == [10]
  assert due(every=4) == [4, 8, 10]
  assert due(every=4, at=(0, 5), last=False) == [0, 4, 5, 8]
  assert due(every=0, at=(3,), last=False) == [3]
  assert due(every=5, last=False) == [5, 10]


@pytest.mark.parametrize(
  'override, message',
  [
    ('evaluators.probe.every=-1', 'evaluators.probe: every must not be negative, not -1'),
    ('evaluators.validation.at=(-3,)', r'evaluators.validation: at must hold steps from 0 on'),
    ('checkpoints.minutes=-1.0', 'checkpoints: minutes must not be negative'),
  ],
)
def test_a_schedule_that_can_not_be_is_refused_before_anything_runs(data_dir, override, message):
  with pytest.raises(UserError, match=message):
    tiny.build(data_dir, 'masked', f'--config.{override}')


def test_every_evaluator_keeps_its_own_schedule(data_dir, tmp_path):
  experiment = tiny.build(
    data_dir, 'autoregressive',
    '--config.evaluators.validation.every=3',
    '--config.evaluators.validation.at=()',
    '--config.evaluators.validation.last=False',
    '--config.evaluators.probe.every=8',
    '--config.evaluators.samples.every=4',
    '--config.evaluators.samples.at=()',
    '--config.evaluation.samples=2',
    '--config.checkpoints.every=5',
  )  # fmt: skip
  record = run.execute(experiment, str(tmp_path))
  curve = metrics.read_curve(str(tmp_path / 'metrics.jsonl'))

  def steps(name: str) -> list[int]:
    return [row['step'] for row in curve if name in row]

  assert steps('validation/loss') == [3, 6]
  assert steps('probe/linear/accuracy') == [0, 8]
  assert not steps('samples')  # pictures go to TensorBoard alone
  checkpoints = checkpoint.Checkpoints(str(tmp_path / 'checkpoints'))
  assert checkpoints.steps() == [5, 8]  # the last two of 0, 5, 8
  assert checkpoints.best_step() == record['validation']['best_step'] == 6
  checkpoints.close()
  shown = _pictures(tmp_path)
  assert shown.count('samples') == 3 and len(set(steps('validation/loss'))) == 2  # 4, 8, the end


def _pictures(directory) -> list[str]:
  from tensorboard.backend.event_processing import event_accumulator

  found = []
  for name in sorted(os.listdir(directory)):
    if name.startswith('events.'):
      events = event_accumulator.EventAccumulator(str(directory / name), {'images': 0})
      events.Reload()
      found += [tag for tag in events.Tags()['images'] for _ in events.Images(tag)]
  return found


def test_a_checkpoint_is_due_by_minutes(data_dir, tmp_path, monkeypatch):
  """Time stands still but for one jump, during the fourth step."""
  experiment = tiny.build(
    data_dir, 'masked', '--config.checkpoints.every=0', '--config.checkpoints.at=()',
    '--config.checkpoints.minutes=1.0', '--config.evaluators.validation.every=0',
  )  # fmt: skip
  clock, saved = [0.0], []
  monkeypatch.setattr(loop.time, 'monotonic', lambda: clock[0])
  rows = experiment.batches.rows

  class Batches:
    def rows(self, step, owned):
      clock[0] += 61.0 if step == 3 else 0.0
      return rows(step, owned)

  monkeypatch.setitem(experiment.__dict__, 'batches', Batches())
  save = checkpoint.Checkpoints.save

  def spy(self, state, step, counters, **kinds):
    saved.append((step, kinds))
    return save(self, state, step, counters, **kinds)

  monkeypatch.setattr(checkpoint.Checkpoints, 'save', spy)
  run.execute(experiment, str(tmp_path))
  # Asked for in the fourth step (or the next), answered one step later.
  (early, kinds), (end, _) = saved
  assert early in (5, 6) and kinds == {'last': True, 'best': False} and end == 8


def test_an_unknown_evaluator_is_refused(data_dir):
  experiment = tiny.build(data_dir, 'masked')
  with experiment.config.unlocked():
    experiment.config.evaluators.mood = {'every': 1, 'at': (), 'last': True}
  with pytest.raises(UserError, match="unknown evaluator 'mood'; known: validation, probe"):
    evaluators.build(experiment)


def test_progress_of_training_reaches_the_view(data_dir):
  """0 at the first update, and what is left of it at the last; 1 where training has no length."""
  experiment = tiny.build(data_dir, 'masked')
  optimizer = optimizer_lib.for_task(experiment.task, experiment.config.optimizer, 8)
  task = experiment.task
  seen = []

  def draw(key, rows, progress):
    seen.append(progress)
    return task.draw(key, rows, progress)

  state = state_lib.init_state(task, optimizer, experiment.mesh)
  batch = experiment.batches.rows(0, np.arange(8))
  for steps, expected in ((8, 0.25), (None, 1.0)):
    update = state_lib.make_update(
      dataclasses.replace(task, draw=draw), optimizer, 1.0, steps=steps
    )

    def shown(state, update=update):
      update(state, batch)  # Nothing but what was drawn with is computed.
      return seen.pop()

    assert float(jax.jit(shown)(state._replace(step=state.step + 2))) == expected
  drawn = task.draw(jax.random.key(0), 3, 0.5)
  np.testing.assert_array_equal(drawn['progress'], [0.5] * 3)
