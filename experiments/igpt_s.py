# python -m launch.train --config=experiments/igpt_s.py:autoregressive --workdir=/tmp/igpt_s
"""iGPT-S with the published training settings: see experiments/imagegpt.py."""

import functools

from experiments import imagegpt

COMPARE, SEEDS = imagegpt.COMPARE, imagegpt.SEEDS
get_config = functools.partial(imagegpt.get_config, preset='igpt_s')
