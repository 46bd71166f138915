"""The bound on a network by the bytes of its weights, against its formula and on fresh draws."""

import math

import numpy as np
import pytest

from experiments import hierarchy as config_file
from runs import configs, experiment, finite
from runs.errors import UserError


def _built(*overrides):
  small = ('model.width=16', 'model.layers=1', 'model.heads=2', 'training.steps=3')
  small += ('training.batch_size=40', 'data.depth=2', 'probe_data.depth=2', *overrides)
  config = configs.override(config_file.get_config(), [f'--config.{text}' for text in small])
  return experiment.build(config, '')


def test_the_bound_is_its_formula_on_what_training_saw():
  built = _built()
  params = built.task.init(built.task.key)
  found = finite.bound(built, params, ('4 bits', '6 bits'), (0.1, 0.5))
  # Output tables start at zero: every token has p = 1/8, whatever the weights.
  assert [found[k] for k in ('train', 'test', 'uniform')] == pytest.approx([3, 3, 3])
  assert found['examples'] == 120
  alpha = found['alpha']
  least, most = -math.log2(1 - alpha + alpha / 8), -math.log2(alpha / 8)
  q, e = ((found[name] - least) / (most - least) for name in ('train', 'bound'))
  nats = (found['weight_bits'] + 32) * math.log(2) + math.log(4 / 0.05)
  kl = q * math.log(q / e) + (1 - q) * math.log((1 - q) / (1 - e)) if e < 1 else math.inf
  assert kl == pytest.approx(nats / 120, rel=1e-6) or e == 1
  with pytest.raises(UserError, match='drawn afresh'):
    finite.bound(_built('data.examples=200'), params, ('4 bits',))


def test_a_bound_is_near_what_is_measured_where_there_are_many_examples():
  rng = np.random.default_rng(0)
  p = rng.uniform(0.2, 0.9, (20_000, 4))
  made = finite._bound(p, 0.1, 8, size=100, choices=1)
  mean = -np.log2(0.9 * p + 0.1 / 8).mean()
  assert made['train'] == pytest.approx(mean)
  assert mean < made['bound'] < mean + 0.3
  assert finite._bound(p, 0.1, 8, size=10**6, choices=1)['bound'] == pytest.approx(math.log2(80))
