# python -m launch.train --config=experiments/imagenet_resized.py:masked --workdir=/tmp/imagenet
"""ImageNet at 32x32 as TFDS prepares it, in a palette of 512 colours; for accelerators.

64x64: --config.data.name=imagenet_resized/64x64. Bytes: --config.data.tokens=bytes. It has no
test split: validation serves as test, and validation is held out from train.
"""

import ml_collections

from experiments import cifar10


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = cifar10.get_config(objective)
  config.data.name = 'imagenet_resized/32x32'
  config.data.validation = 10_000
  return config


COMPARE, SEEDS = cifar10.COMPARE, cifar10.SEEDS
