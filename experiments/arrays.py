# python -m launch.train --config=experiments/arrays.py --workdir=/tmp/mine --config.data.path=F.npz
"""Your own arrays: an .npz file of images or tokens, with or without labels (data/arrays.py).

A directory of PNG or JPEG files, one directory a class: --config.data.name=image_folder.
"""

import ml_collections

from experiments import base

IMAGES = {'tokens': '', 'size': 0, 'levels': 256, 'clusters': 512, 'palette': ''}
# 0: a tenth of the examples.
SPLITS = {'validation': 0, 'test': 0, 'split_seed': 0}


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  source = {'path': '', **IMAGES, 'ordinal': False, **SPLITS}
  config.data = ml_collections.ConfigDict({'name': 'arrays', **source})
  config.probe_data = ml_collections.ConfigDict({'name': '', **source})
  return config
