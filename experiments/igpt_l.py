# python -m launch.train --config=experiments/igpt_l.py:autoregressive --workdir=/tmp/igpt_l
"""iGPT-L with the published training settings: see experiments/imagegpt.py."""

import functools

from experiments import imagegpt

COMPARE, SEEDS = imagegpt.COMPARE, imagegpt.SEEDS
get_config = functools.partial(imagegpt.get_config, preset='igpt_l')
