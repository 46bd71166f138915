# python -m launch.train --config=experiments/igpt_m.py:autoregressive --workdir=/tmp/igpt_m
"""iGPT-M with the published training settings: see experiments/imagegpt.py."""

import ml_collections

from experiments import imagegpt

COMPARE, SEEDS = imagegpt.COMPARE, imagegpt.SEEDS


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  return imagegpt.get_config(objective, 'igpt_m')
