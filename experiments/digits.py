# python -m launch.train --config=experiments/digits.py:autoregressive --workdir=/tmp/digits
"""8x8 handwritten digits, 17 grey levels: the embedded data set of `make compare`."""

import ml_collections

from experiments import base


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  config.data.name = 'digits'
  return config
