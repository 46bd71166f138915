# python -m launch.train --config=experiments/retellings.py --workdir=/tmp/retellings
"""Stories, bare facts and questions on them, a word a token: how instructions are learnt."""

import ml_collections

from experiments import base

COMPARE = ('autoregressive', 'masked', 'masked_diffusion')


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  config.data.update({'name': 'retellings', 'world': 0, 'length': 32, 'held_out': 300})
  config.training.steps = 1000
  config.training.batch_size = 64
  config.optimizer.learning_rate = 5e-3
  config.evaluation.draws = 8
  return config
