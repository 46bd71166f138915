# python -m launch.train --config=experiments/text_file.py --workdir=/tmp/text --config.data.path=F
"""The bytes of any file: bits per byte. There are no labels, so nothing is probed."""

import ml_collections

from experiments import base

COMPARE = ('autoregressive', 'masked', 'masked_diffusion')


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  source = {'name': 'text_file', 'path': '', 'length': 256, 'validation': 0.05, 'test': 0.05}
  config.data.update(source)
  config.evaluation.draws = 8
  return config
