# python -m launch.compare --config=experiments/hierarchy.py --workdir=/tmp/hierarchy
"""Random hierarchy model: a source whose entropy, conditionals and latents are known.

How the default grammar was chosen: by autoregression's regret (validation, bits per dimension)
within the budget and by how badly raw one-hot tokens show the root, on pilot grammar 100, which no
result includes. Every m (productions a symbol) that was tried:

  m   AR regret                            raw probe of the root, 250 / 8,000 labels
  2   0.046 (1,500 steps at 2e-3)          0.55 / 1.00
  3   0.120 (1,500 steps at 2e-3)          0.31 / 0.50
  4   not trained                          0.17 / 0.22

m = 2 it is. Learning rates tried there for 1,000 steps: 5e-3 (0.042) and 1e-2 (0.070).
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
# And what its pilot runs repeat, by which learning rates are chosen.
PILOTS = {'grammar100': _grammar(100)}


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
  config.data.update(source)
  # The same grammar, with a labelled training set of its own.
  config.probe_data = ml_collections.ConfigDict({**source, 'examples': 2000})
  config.training.steps = 1000
  config.training.batch_size = 128
  # The curve falls fast at first.
  base.measure(config, every=200, at=(0, 20, 40, 60, 80, 100, 150))
  config.optimizer.learning_rate = 5e-3
  config.evaluation.draws = 32
  # What fits a quarter of an hour; the other probes by --config.probe.suite.
  config.probe.suite = ('linear', 'ridge', 'knn', 'mlp', 'geometry', 'pac')
  return config
