# python -m launch.compare --config=experiments/structured_noise.py --workdir=/tmp/structured
"""Structured noise, beside noise.py: pretrain on random automata, probe digits."""

import ml_collections

from experiments import base


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  config.data.update(
    {
      'name': 'automata',
      'vocabulary': 17,
      'rows': 8,
      'width': 8,
      'held_out': 300,
    }
  )
  config.probe_data.name = 'digits'
  return config
