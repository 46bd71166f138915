# python -m launch.train --config=experiments/igpt_xl.py:autoregressive --workdir=/tmp/igpt_xl
"""iGPT-XL with the published training settings: see experiments/imagegpt.py."""

import ml_collections

from experiments import imagegpt

COMPARE, SEEDS = imagegpt.COMPARE, imagegpt.SEEDS


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  return imagegpt.get_config(objective, 'igpt_xl')
