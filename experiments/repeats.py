# python -m launch.train --config=experiments/repeats.py --workdir=/tmp/repeats
"""Text that repeats: documents of a few words of their own, over and over."""

import ml_collections

from experiments import base

COMPARE = ('autoregressive', 'masked', 'masked_diffusion')


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  source = {'name': 'repeats', 'symbols': 16, 'length': 32, 'words': 3, 'shortest': 2}
  config.data.update(source | {'longest': 4, 'repeating': 1.0, 'held_out': 300})
  config.training.steps = 1000
  config.training.batch_size = 64
  config.optimizer.learning_rate = 5e-3
  config.evaluation.draws = 8
  return config
