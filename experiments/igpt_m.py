# python -m launch.train --config=experiments/igpt_m.py:autoregressive --workdir=/tmp/igpt_m
"""iGPT-M with the published training settings: see experiments/imagegpt.py."""

import functools

from experiments import imagegpt

COMPARE, SEEDS = imagegpt.COMPARE, imagegpt.SEEDS
get_config = functools.partial(imagegpt.get_config, preset='igpt_m')
