# python -m launch.compare --config=experiments/mnist.py --workdir=/tmp/mnist
"""MNIST as Fashion-MNIST is: 14x14 area means of 16 grey levels, or size 28 and 256 levels."""

import ml_collections

from experiments import fashion_mnist

COMPARE, SEEDS, PILOTS = fashion_mnist.COMPARE, fashion_mnist.SEEDS, fashion_mnist.PILOTS


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = fashion_mnist.get_config(objective)
  config.data.name = 'mnist'
  return config
