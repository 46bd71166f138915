# python -m launch.compare --config=experiments/hierarchy.py --workdir=/tmp/hierarchy
"""Random hierarchy model: a source whose entropy, conditionals and latents are known.

The default (m = 2 productions) was chosen on pilot grammars 100-102, which no result includes, by
the regret that autoregression reaches in the budget and by how badly raw tokens show the root.
"""

import ml_collections

from experiments import base

COMPARE = (
  'autoregressive',
  'masked',
  'masked_diffusion',
  'gaussian_diffusion',
  'untrained',
  'untrained_causal',
)
SEEDS = (0,)


def _grammar(seed: int) -> tuple[str, ...]:
  return (f'--config.data.grammar_seed={seed}', f'--config.probe_data.grammar_seed={seed}')


# What a comparison repeats beside the seed: three draws of the grammar.
REPLICATES = {f'grammar{seed}': _grammar(seed) for seed in (0, 1, 2)}


def get_config(objective: str = 'autoregressive') -> ml_collections.ConfigDict:
  config = base.get_base(objective)
  source = {
    'name': 'hierarchy',
    'depth': 4,
    'branching': 2,
    'symbols': 8,
    'productions': 2,
    'grammar_seed': 0,
    'examples': 0,  # drawn afresh for ever
    'held_out': 300,
  }
  config.data = ml_collections.ConfigDict(source)
  # The same grammar, with a labelled training set of its own.
  config.probe_data = ml_collections.ConfigDict({**source, 'examples': 2000})
  config.training.steps = 1500
  config.training.batch_size = 128
  config.evaluation.draws = 32
  return config
