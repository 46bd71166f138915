"""Every field that all configs have, with its default; the other files state only what differs.

Settings of an objective and of data come with these (`objectives/`, docs/data.md).
"""

import ml_collections

import objectives


def get_base(objective: str) -> ml_collections.ConfigDict:
  """The default config for one objective. ValueError lists the known objectives."""
  settings, scale = objectives.settings(objective), objectives.input_scale(objective)
  return ml_collections.ConfigDict(
    {
      # 'name' and the objective's own settings (masked: ratio, corruption, ...).
      'objective': {'name': objective, **settings},
      # Tells runs of one objective apart in reports, where they stand side by side.
      'variant': '',
      # What is compressed: see data/sources.py.
      # In which order training sees a finite training set: runs/ordering.py.
      'data': {'name': '', 'order': 'shuffled', 'order_by': ''},
      # What is probed; an empty name means the same as `data`.
      'probe_data': {'name': ''},
      'model': {
        'preset': 'nano',  # width, layers and heads; 0 below means the preset's
        'width': 0,
        'layers': 0,
        'heads': 0,
        'mlp_ratio': 4,
        # The input scale: iGPT's, unless the objective declares one of its own.
        'token_init': scale or 0.02,
        'position_init': scale or 0.01,
        'norm_epsilon': 1e-5,
        'compute_dtype': 'float32',
        'remat': False,
        'remat_policy': 'full',  # or 'dots': keep the products with weights
        'attention': 'xla',  # or a fused kernel: 'cudnn', 'tpu'
        'unroll': 'auto',  # no loop over layers: auto (few of them on one CPU), always, never
        'shared_layers': False,  # one block's weights in every layer
        'mixer': 'attention',  # or 'recurrent', for causal objectives
        'state': 0,  # of a recurrent layer, 8 to 4096 numbers
        'dropout': 0.0,  # in training alone: of the embedding and of what each branch brings
        # Worse to train, for the question whether that matters, and for nothing else.
        'residual': True,  # skip connections
        'norm': 'pre',  # or 'none', 'post'
      },
      'optimizer': {
        'learning_rate': 2e-3,
        'warmup_steps': 50,
        'end_fraction': 0.0,  # learning rate at the last step, as a fraction of the peak
        'beta1': 0.9,
        'beta2': 0.95,
        'weight_decay': 0.01,
        'clip_norm': 1.0,
      },
      'training': {
        'seed': 0,
        'steps': 800,
        'batch_size': 32,
        'microbatches': 1,  # parts of a batch done one after the other, for memory
        'log_every': 10,
        'init_from': '',  # a finished run, whose backbone training starts from
        'init_checkpoint': 'last',  # of that run; or 'best', by its own validation loss
      },
      # What is measured during training, and when: at multiples of `every` (0 leaves it out), at
      # these steps (0: before the first), and after the last.
      'evaluators': {
        'validation': {'every': 100, 'at': (0,), 'last': True},  # the objective's own loss, bits
        'probe': {'every': 100, 'at': (0,), 'last': True},  # a small linear one
        'label_code': {'every': 0, 'at': (0,), 'last': True},  # prequential, of the train labels
        'samples': {'every': 0, 'at': (0,), 'last': True},  # pictures of them
      },
      # Also when so many minutes have passed since the last one (0: never).
      'checkpoints': {'every': 100, 'at': (0,), 'last': True, 'minutes': 10.0},
      'evaluation': {
        'test': True,  # False: no bits or loss on test, as of pilots, which validation compares
        'seed': 0,
        'batch_size': 100,
        'draws': 64,  # of a stochastic objective, per test example
        # Of test, for other codes of the same weights that take more passes than that; 0: all, and
        # none for a code of more than 128 passes.
        'chain_examples': 0,
        'samples': 32,  # drawn from every objective with a likelihood
        'validation_draws': 8,  # the same for the validation loss during training
      },
      'probe': {
        # Noisy models: probe at noise levels too, features averaged over so many draws.
        'levels': True,
        'level_draws': 2,
        'batch_size': 100,
        'train_rows': 0,  # training labels that probes may have, a random subset; 0: all
        # Which probes run on the last checkpoint; the linear one is the primary.
        'suite': (
          ('linear', 'ridge', 'knn', 'mlp', 'prequential', 'pooling', 'attentive')
          + ('control_task', 'geometry', 'pac')
        ),
        'linear': {
          'labels': (10, 40, 100, 250),
          'draws': 3,
          'folds': 3,
          'l2': (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
          'few_l2': (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
          'single_l2': 1e-2,  # at 10 labels: one lambda and the middle layer, declared beforehand
          'engine': 'auto',  # of all labels: 'host', 'mesh', or by size
        },
        'ridge': {'l2': (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)},
        'knn': {'neighbours': (1, 5, 20), 'temperature': 0.07, 'labels': (100,), 'draws': 3},
        'mlp': {
          'hidden': 128,
          'steps': 800,
          'batch_size': 64,
          'learning_rate': 5e-3,
          'weight_decay': (0.1, 1.0, 3.0),
          'checkpoints': 8,
          'l2': (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),  # the linear probe's: it may start from one
        },
        'prequential': {
          'rows': 10_000,
          'first': 10,  # labels coded uniformly
          'orders': 3,  # of the labels, for the linear code
          'network_orders': 1,  # the first of them, for the MLP's
          'l2': (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0),
          'mlp': {
            'hidden': 128,
            'steps': 400,
            'batch_size': 64,
            'learning_rate': 5e-3,
            'weight_decay': (0.1, 1.0, 3.0),
            'checkpoints': 4,
          },
        },
        'pooling': {'l2': (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)},
        'attentive': {
          'heads': 4,
          'rows': 2000,
          'layers': 6,
          'steps': 300,
          'batch_size': 128,
          'learning_rate': 3e-3,
          'weight_decay': (1e-2, 1.0),
        },
        'control_task': {
          'l2': (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
          'draws': 3,
          'types_per_class': 5,
          'rows': 20_000,  # of a split, where features are too large for the host
        },
        'geometry': {'rows': 4096, 'saved': 512},
        'pac': {
          'delta': 0.05,
          'bits': (1, 2, 3, 4),
          'ranges': (0.125, 0.25, 0.5, 1.0, 2.0, 4.0),
          'l2': (1e-3, 1e-2, 1e-1, 1.0),
          'choices': 1,  # by hand, beside the checkpoints and learning rates that are counted
        },
        # Not in the default suite: it trains the whole network some ten times. Named there, or by
        # launch.finetune after training.
        'finetune': {
          'labels': (10, 100),  # beside all of them
          'draws': 1,
          'folds': 3,
          'layer': 'last',  # or 'best', the linear probe's
          'l2': (1e-4, 1e-2, 1.0),  # of that choice
          'learning_rates': (3e-4, 2e-3),
          'single_learning_rate': 1e-3,  # at 10 labels, with all of the steps
          'steps': 100,
          'all_steps': 300,  # 0: not with all labels
          'checkpoints': 4,  # among which early stop chooses
          'batch_size': 32,
          'generative': 1.0,  # weight of the objective's own loss
          'weight_decay': 0.01,
          'warmup': 10,
          'validation_rows': 2000,
          'prequential': {
            'rows': 2000,
            'first': 10,  # labels coded uniformly
            'orders': 3,  # of the labels
            'learning_rates': (3e-4, 2e-3),
            'steps': 100,
            'checkpoints': 4,
          },
        },
      },
    }
  )


def measure(config: ml_collections.ConfigDict, every: int, at: tuple[int, ...] = (0,)) -> None:
  """Sets the schedule of the validation loss, the small probe and checkpoints."""
  for entry in (config.evaluators.validation, config.evaluators.probe, config.checkpoints):
    entry.update(every=every, at=at)
