# python -m launch.train --config=experiments/igpt_l.py:autoregressive --workdir=/tmp/igpt_l
"""ImageGPT as it was published, for accelerators: igpt_s.py, igpt_m.py, igpt_l.py, igpt_xl.py.

From Chen et al. 2020, «Generative Pretraining from Pixels», section 3.4 and appendix A.1: Adam with
betas 0.9 and 0.95, no weight decay, no dropout; warm-up over one epoch, then a cosine to 0; batches
of 128 for 1M steps, for XL of 64 for 2M; 4 % of ImageNet's training images held out; 32x32 pixels
(XL: 64x64) of a palette of 512 colours. Learning rates were tried in the order 0.01, 0.003, 0.001,
0.0003, ... until the final validation loss rose, larger models ending at lower ones: 0.003 for S.
The rates here of M, L and XL are entries of that sequence to start from; `launch.compare
--learning_rates=` tries others.

What differs: no augmentation (the paper crops at random); activations in bfloat16 with float32
parameters; clipping by global norm, which the paper does not mention, logged as a fraction.

To probe CIFAR-10 with the same colours: --config.data.palette=FILE.npy
--config.probe_data.name=cifar10 --config.probe_data.palette=FILE.npy.
"""

import ml_collections

from experiments import base

# A palette is no scale, so Gaussian diffusion has no place here.
COMPARE = ('autoregressive', 'masked', 'masked_diffusion', 'untrained', 'untrained_causal')
SEEDS = (0,)

TRAINING_IMAGES = 1_281_167
HELD_OUT = TRAINING_IMAGES * 4 // 100

# Learning rate, batch, steps, pixels a side.
SETTINGS = {
  'igpt_s': (3e-3, 128, 1_000_000, 32),
  'igpt_m': (3e-3, 128, 1_000_000, 32),
  'igpt_l': (1e-3, 128, 1_000_000, 32),
  'igpt_xl': (3e-4, 64, 2_000_000, 64),
}


def get_config(
  objective: str = 'autoregressive', preset: str = 'igpt_s'
) -> ml_collections.ConfigDict:
  """The config of one published size."""
  learning_rate, batch, steps, side = SETTINGS[preset]
  config = base.get_base(objective)
  images = {'tokens': 'palette', 'size': 0, 'clusters': 512, 'palette': ''}
  name = f'imagenet_resized/{side}x{side}'
  config.data.update({'name': name, **images, 'validation': HELD_OUT})
  config.probe_data = ml_collections.ConfigDict({'name': '', **images, 'validation': 5000})
  config.model.preset = preset
  config.model.compute_dtype = 'bfloat16'
  config.model.remat = True
  config.optimizer.learning_rate = learning_rate
  config.optimizer.warmup_steps = (TRAINING_IMAGES - HELD_OUT) // batch
  config.optimizer.weight_decay = 0.0
  config.training.batch_size = batch
  config.training.steps = steps
  config.training.log_every = 100
  base.measure(config, every=steps // 50)
  config.evaluation.batch_size = batch
  config.evaluation.draws = 4
  config.evaluation.validation_draws = 1
  # 250 labels are too few for ImageNet's thousand classes.
  config.evaluators.probe.every = 0
  return config
