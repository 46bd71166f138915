# python -m launch.compare --config=experiments/fashion_mnist.py --workdir=/tmp/fashion_mnist
"""Fashion-MNIST: 14x14 area means of 16 grey levels.

The pixels themselves, lossless: --config.data.size=28 --config.data.levels=256. Another labelled
set to probe: --config.probe_data.name=mnist. Two epochs of a third of the training images (all of
them: --config.data.train_rows=0), what two cores can do in a day; pilots and the rule of stopping
are those of experiments/cifar10_small.py, and none of it was changed after the first pilot.
"""

import ml_collections

from experiments import base, cifar10_small

TRAINED = (
  'autoregressive',
  'autoregressive+input_mask=0.15',
  'masked',
  'masked+ratio=0.5',
  'masked_diffusion',
  'block_diffusion+block=14',  # a row of pixels
  'gaussian_diffusion',
)
COMPARE = (*TRAINED, 'supervised', 'untrained', 'untrained_causal', 'untrained_gaussian')
SEEDS = cifar10_small.SEEDS
PILOTS = {'short': ('--config.training.steps=200',)}
IMAGES = {'tokens': 'grey', 'size': 14, 'levels': 16, 'validation': 2000}
TRAIN = 20_480


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  config.data.update({'name': 'fashion_mnist', **IMAGES, 'train_rows': TRAIN})
  config.probe_data = ml_collections.ConfigDict({'name': '', **IMAGES})
  cifar10_small.long(config, 2 * TRAIN // 64, every=160)
  return config
