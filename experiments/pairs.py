# python -m launch.train --config=experiments/pairs.py --workdir=/tmp/pairs
"""Items and labels by a law of each document: learning in the context, and nothing else."""

import ml_collections

from experiments import base

COMPARE = ('autoregressive',)


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  source = {'name': 'pairs', 'inputs': 16, 'labels': 10, 'length': 128, 'concentration': 0.1}
  config.data.update(source | {'held_out': 300})
  config.training.steps = 1000
  config.training.batch_size = 16
  config.optimizer.learning_rate = 5e-3
  return config
