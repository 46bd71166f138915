# python -m launch.compare --config=experiments/noise.py --workdir=/tmp/noise
"""Negative control: pretrain on uniform noise, probe digits; no better than untrained."""

import ml_collections

from experiments import base


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  config.data.update(
    {
      'name': 'noise',
      'vocabulary': 17,
      'length': 64,
      'held_out': 300,
    }
  )
  config.probe_data.name = 'digits'
  return config
