# python -m launch.train --config=experiments/copy.py:autoregressive --workdir=/tmp/copy
"""Noisy copy at a distance: entropy and what the halves share are known; nothing is probed."""

import ml_collections

from experiments import base

COMPARE = ('autoregressive', 'masked', 'masked_diffusion')


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  config.data.update(
    {
      'name': 'copy',
      'symbols': 8,
      'length': 16,
      'distance': 8,
      'epsilon': 0.1,
      'examples': 0,  # drawn afresh for ever
      'held_out': 300,
    }
  )
  config.training.steps = 300
  config.training.batch_size = 128
  config.optimizer.learning_rate = 5e-3
  return config
