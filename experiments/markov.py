# python -m launch.train --config=experiments/markov.py:energy --workdir=/tmp/markov
"""A Markov chain that is short enough to enumerate: the probability of every sequence is known."""

import ml_collections

from experiments import base

COMPARE = ('autoregressive', 'masked_diffusion', 'energy')


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  config.data.update(
    {
      'name': 'markov',
      'symbols': 4,
      'length': 6,
      'concentration': 1.0,
      'chain_seed': 0,
      'examples': 0,  # drawn afresh for ever
      'held_out': 300,
    }
  )
  config.training.steps = 400
  config.training.batch_size = 128
  # The source has no training set whose histogram could be the noise.
  if 'noise' in config.objective:
    config.objective.noise = 'uniform'
  return config
