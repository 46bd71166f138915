"""Nats of single tokens against nats of examples, and against what follows on a change."""

import numpy as np
import pytest
import tiny

from runs import tokens
from runs.errors import UserError


def test_tokens_add_up_to_examples_and_see_what_is_before_them_alone(data_dir):
  built = tiny.build(data_dir, 'autoregressive')
  params = built.task.init(built.task.key)
  rng = np.random.default_rng(0)
  params['backbone']['output_DxV'] = rng.normal(0, 0.3, (16, 17)).astype(np.float32)
  nats = tokens.make_nats(built)
  rows = built.dataset.test.tokens_NxT[:260]
  found = nats(params, rows)
  whole = built.per_example(params, built.dataset.test, 1, 0)['nats'][:260]
  assert found.shape == rows.shape
  np.testing.assert_allclose(found.sum(1), whole, rtol=1e-5)
  changed = rows.copy()
  changed[:, 40] = (changed[:, 40] + 1) % 17
  again = nats(params, changed)
  np.testing.assert_allclose(again[:, :40], found[:, :40], rtol=1e-6)
  assert np.abs(again[:, 41:] - found[:, 41:]).max() > 1e-3


@pytest.mark.parametrize('objective, setting', [('masked', ()), ('autoregressive', ('reversed',))])
def test_other_orders_are_refused(data_dir, objective, setting):
  asked = [f'--config.objective.order={order}' for order in setting]
  with pytest.raises(UserError, match='raster order'):
    tokens.make_nats(tiny.build(data_dir, objective, *asked))
