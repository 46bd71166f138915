"""Training runs that claims share: small sources, small networks, one place for their settings.

A run is told by its settings alone: claims that ask for the same ones get the same directory, and
it is trained once. So ask for the plain sets where they do, and name settings only where the claim
is about them; then name too where its learning rate is from (`tuned_as`), a line of `pilots.SETS`.

    sets.digits('masked', seed, budget)
    sets.hierarchy('autoregressive', seed, budget, {'model.layers': 8}, 'hierarchy_deep', layers=8)

The settings are overrides of the config file; the words after them are tags, columns of the rows
beside source, objective and seed. What a hierarchy draws, its grammar, follows the seed, so that
seeds are independent of one another; on digits all seeds have the same test images.

Learning rates come from pilots (claims/pilots.py), the lowest validation loss of a set's own. All
are in TRIED; what is not there trains at the config's rate and is printed as untuned.
"""

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

import pandas as pd

# Every pilot: set (name in `pilots.SETS`), objective, learning_rate, validation_loss.
TRIED = pathlib.Path(__file__).parents[1] / 'experiments' / 'results' / 'claims' / 'pilots.csv'


def chosen(losses: pd.DataFrame) -> dict[tuple[str, str], float]:
  """(set, objective) -> the learning rate with the lowest loss, from columns as TRIED has."""
  best = losses.loc[losses.groupby(['set', 'objective'])['validation_loss'].idxmin()]
  return dict(
    zip(zip(best['set'], best['objective'], strict=True), best['learning_rate'], strict=True)
  )


# Some of the smallest networks, and the worst to train, chose an edge of the grid.
RATES: dict[tuple[str, str], float] = chosen(pd.read_csv(TRIED))
# The objectives that the shared sets have pilots of; Gaussian diffusion needs levels of a scale.
OF_SYMBOLS = ('autoregressive', 'masked', 'masked_diffusion')
TRAINED = (*OF_SYMBOLS, 'gaussian_diffusion')
UNTRAINED = ('untrained', 'untrained_causal', 'untrained_gaussian')

_EARLY = (0, 10, 20, 40, 70, 150)  # updates at which digits are measured too
_QUICK = {
  'optimizer.warmup_steps': 10,
  'probe.linear.labels': (40, 100),
  'probe.linear.draws': 2,
  'probe.linear.l2': (1e-2, 1.0),
  'probe.linear.few_l2': (1e-2, 1.0),
}

_NO_SAMPLES = {
  'evaluators.samples.at': (),
  'evaluators.samples.last': False,
  'evaluation.samples': 0,
}
# None along the training: the suite has it at the end, where it is asked for.
_NO_LABEL_CODE = {'evaluators.label_code.at': (), 'evaluators.label_code.last': False}
NO_PROBE = {
  'evaluators.probe.every': 0,
  'evaluators.probe.at': (),
  'evaluators.probe.last': False,
}


@dataclasses.dataclass(frozen=True)
class Spec:
  """One training run.

  Attributes:
    config: a file of experiments/, without its ending.
    objective: which.
    seed: of training; of the grammar too where there is one.
    overrides: '--config.a.b=value', in order.
    tags: (column, value) of its rows, beside source, objective and seed.
    tuned: whether its learning rate was chosen by pilots, or needs no choice.
  """

  config: str
  objective: str
  seed: int
  overrides: tuple[str, ...] = ()
  tags: tuple[tuple[str, Any], ...] = ()
  tuned: bool = False

  @property
  def name(self) -> str:
    """For people; the directory has a digest of all settings behind it, and nothing of tags."""
    return f'{self.config}-{self.objective}-seed{self.seed}'

  @property
  def columns(self) -> dict[str, Any]:
    return {
      'source': self.config,
      'objective': self.objective,
      'seed': self.seed,
      **dict(self.tags),
    }


def spec(
  config: str,
  objective: str,
  seed: int,
  settings: Mapping[str, Any],
  tuned_as: str,
  **tags: Any,
) -> Spec:
  """A run of any config file; sets below are this with settings of their own.

  Args:
    config: a file of experiments/.
    objective: which.
    seed: of training.
    settings: field (without 'config.') -> value.
    tuned_as: the name in RATES under which its rate is.
    **tags: columns of its rows.
  """
  settings = {**settings, 'training.seed': seed}
  rate = RATES.get((tuned_as, objective))
  trains = not objective.startswith('untrained')
  asked = 'optimizer.learning_rate' in settings
  if rate is not None and not asked:
    settings['optimizer.learning_rate'] = rate
  tuned = not trains or rate is not None
  return Spec(config, objective, seed, flags(settings), tuple(tags.items()), tuned)


def flags(settings: Mapping[str, Any]) -> tuple[str, ...]:
  """'--config.FIELD=VALUE' as flags are read; a tuple of words needs its quotes."""
  return tuple(
    f'--config.{field}={value!r}'
    if isinstance(value, float | tuple)
    else f'--config.{field}={value}'
    for field, value in settings.items()
  )


def digits(
  objective: str,
  seed: int,
  budget: str,
  settings: Mapping[str, Any] | None = None,
  tuned_as: str = 'digits',
  **tags: Any,
) -> Spec:
  """8x8 digits, nano, 800 updates of 32, the config's own."""
  quick = budget == 'quick'
  own = {
    'training.steps': 60 if quick else 800,
    'probe.suite': ('linear',) if quick else ('linear', 'attentive', 'prequential'),
    'probe.levels': False,
    'evaluation.draws': 4 if quick else 32,
    'evaluators.validation.every': 20 if quick else 100,
    'evaluators.probe.every': 20 if quick else 100,
    # Most of it is learnt early.
    'evaluators.validation.at': (0,) if quick else _EARLY,
    'evaluators.probe.at': (0,) if quick else _EARLY,
    **_NO_SAMPLES,
    **_NO_LABEL_CODE,
    **(_QUICK if quick else {}),
  }
  return spec('digits', objective, seed, own | dict(settings or {}), tuned_as, **tags)


def digits_deep(objective: str, seed: int, budget: str, **tags: Any) -> Spec:
  """Digits with eight layers, half as wide, 400 updates."""
  settings = {
    'model.layers': 8,
    'model.width': 32,
    'training.steps': 60 if budget == 'quick' else 400,
    'probe.suite': ('linear',),
    **NO_PROBE,
  }
  return digits(objective, seed, budget, settings, 'digits_deep', **tags)


def digits_wide(
  objective: str, seed: int, budget: str, width: int, settings: Mapping[str, Any] | None = None
) -> Spec:
  """Digits at another width; 64 is the plain set, so that it is shared."""
  if width == 64:
    return digits(objective, seed, budget, settings, width=64)
  own = {'model.width': width, 'probe.suite': ('linear',), **(settings or {})}
  return digits(objective, seed, budget, own, f'digits_w{width}', width=width)


def hierarchy(
  objective: str,
  seed: int,
  budget: str,
  settings: Mapping[str, Any] | None = None,
  tuned_as: str = 'hierarchy',
  **tags: Any,
) -> Spec:
  """The random hierarchy model of the config: 16 tokens, 8 symbols, a grammar a seed; 400 updates.

  A setting `data.FIELD` goes to the probed data too, but for `data.examples`.
  """
  quick = budget == 'quick'
  own = {
    'training.steps': 60 if quick else 400,
    'probe.suite': ('linear',),
    'probe.levels': False,
    'evaluation.draws': 8 if quick else 32,
    'evaluators.validation.every': 20 if quick else 50,
    'evaluators.validation.at': (0,),
    'evaluators.probe.every': 20 if quick else 50,
    'evaluators.probe.at': (0,),
    **_NO_SAMPLES,
    **_NO_LABEL_CODE,
    'data.grammar_seed': seed,
    **(_QUICK if quick else {}),
    **(settings or {}),
  }
  fields = {name: value for name, value in own.items() if name.startswith('data.')}
  own |= {f'probe_{name}': v for name, v in fields.items() if name != 'data.examples'}
  return spec('hierarchy', objective, seed, own, tuned_as, **tags)


def hierarchy_wide(objective: str, seed: int, budget: str, width: int) -> Spec:
  """The hierarchy at another width, with nothing probed on the way; 64 is the plain set."""
  if width == 64:
    return hierarchy(objective, seed, budget, width=64)
  own = {'model.width': width, 'model.heads': min(4, width // 4), **NO_PROBE}
  return hierarchy(objective, seed, budget, own, f'hierarchy_w{width}', width=width)


def hierarchy_for(objective: str, seed: int, budget: str, length: float) -> Spec:
  """The hierarchy trained `length` times as long as the plain set, its rate falling to zero then.

  The learning rate and the share of the warm-up stay; nothing is probed. 1 is the plain set.
  """
  if length == 1:
    return hierarchy(objective, seed, budget, length=1.0)
  steps = max(2, round(length * (60 if budget == 'quick' else 400)))
  own = {
    'training.steps': steps,
    'optimizer.warmup_steps': max(1, steps // 8),
    'evaluators.validation.every': steps,
    'probe.suite': ('ridge',),
    **NO_PROBE,
  }
  return hierarchy(objective, seed, budget, own, length=float(length))


def noise(objective: str, seed: int, budget: str, structured: bool = False, **tags: Any) -> Spec:
  """Digits' network trained on uniform or structured noise for 200 updates of 32, probed on digits.

  The rate is the one of digits: on noise there is nothing to choose it by.
  """
  quick = budget == 'quick'
  own = {
    'training.steps': 40 if quick else 200,
    'probe.suite': ('linear',),
    'probe.levels': False,
    'evaluation.draws': 4,
    'evaluators.validation.every': 100,
    **NO_PROBE,
    **_NO_SAMPLES,
    **_NO_LABEL_CODE,
    **(_QUICK if quick else {'probe.linear.labels': (100,)}),
  }
  config = 'structured_noise' if structured else 'noise'
  return spec(config, objective, seed, own, 'digits', **tags)


def copy(objective: str, seed: int, budget: str, width: int, steps: int = 300) -> Spec:
  """The noisy copy at distance 8 in 16 tokens; width and steps are tags."""
  settings = {
    'model.width': width,
    'model.heads': min(4, width // 4),
    'training.steps': min(60, steps) if budget == 'quick' else steps,
    'evaluation.draws': 4,
    'probe.levels': False,
    **_NO_SAMPLES,
    'optimizer.warmup_steps': 10,
  }
  return spec('copy', objective, seed, settings, f'copy_w{width}', width=width, steps=steps)


def hierarchy_tiny(objective: str, seed: int, budget: str) -> Spec:
  """The hierarchy with one layer 16 wide, 800 updates of 256: many more examples than weights."""
  own = {
    'model.layers': 1,
    'model.width': 16,
    'model.heads': 2,
    'training.steps': 60 if budget == 'quick' else 800,
    'training.batch_size': 256,
    'evaluators.validation.every': 200,
    'probe.suite': ('ridge',),
    **NO_PROBE,
  }
  return hierarchy(objective, seed, budget, own, 'hierarchy_tiny')


def hierarchy_recurrent(objective: str, seed: int, budget: str, state: int) -> Spec:
  """The hierarchy with a recurrence of so many numbers where attention would be; no probe on the
  way."""
  own = {'model.mixer': 'recurrent', 'model.state': state, **NO_PROBE}
  return hierarchy(objective, seed, budget, own, 'hierarchy_recurrent', state=state)


def copy_far(
  objective: str,
  seed: int,
  budget: str,
  settings: Mapping[str, Any] | None = None,
  tuned_as: str = 'copy_far',
  **tags: Any,
) -> Spec:
  """Noisy copy at distance 6 in 18 tokens, 18 bits to hold; two layers 32 wide, 400 updates of 64.

  All seeds have the same test examples.
  """
  quick = budget == 'quick'
  own = {
    'data.length': 18,
    'data.distance': 6,
    'model.width': 32,
    'model.layers': 2,
    'model.heads': 2,
    'training.steps': 40 if quick else 400,
    'training.batch_size': 64,
    'evaluation.draws': 4 if quick else 32,
    'evaluators.validation.every': 20 if quick else 100,
    **NO_PROBE,
    **_NO_SAMPLES,
    **_NO_LABEL_CODE,
    **({'optimizer.warmup_steps': 10} if quick else {}),
    **(settings or {}),
  }
  return spec('copy', objective, seed, own, tuned_as, **tags)


def copy_recurrent(objective: str, seed: int, budget: str, state: int) -> Spec:
  """The same with a recurrence of so many numbers where attention would be."""
  own = {'model.mixer': 'recurrent', 'model.state': state}
  return copy_far(objective, seed, budget, own, 'copy_recurrent', state=state)


def hierarchy_shared(objective: str, seed: int, budget: str) -> Spec:
  """The hierarchy with one block's weights in all layers; no probe on the way."""
  own = {'model.shared_layers': True, **NO_PROBE}
  return hierarchy(objective, seed, budget, own, 'hierarchy_shared')


def digits_shared(objective: str, seed: int, budget: str) -> Spec:
  """Digits with one block's weights in all layers."""
  own = {'model.shared_layers': True, 'probe.suite': ('linear',), **NO_PROBE}
  return digits(objective, seed, budget, own, 'digits_shared')


def digits_short(objective: str, seed: int, budget: str) -> Spec:
  """Digits for an eighth of the updates, the rate falling to zero then; nothing is probed."""
  quick = budget == 'quick'
  own = {
    'training.steps': 20 if quick else 100,
    'optimizer.warmup_steps': 5 if quick else 10,
    'probe.suite': ('ridge',),
    **NO_PROBE,
  }
  return digits(objective, seed, budget, own)


# What makes a network easier or harder to train, for `digits_small`.
NETWORKS: dict[str, dict[str, Any]] = {
  'default': {},
  'no residual': {'model.residual': False},
  'no norm': {'model.norm': 'none'},
  'post-norm': {'model.norm': 'post'},
  'deeper': {'model.layers': 8},
}


def digits_small(objective: str, seed: int, budget: str, network: str, order: str) -> Spec:
  """Digits with four layers 32 wide, 300 updates in one order of the examples; one of NETWORKS.

  An order that is not 'shuffled' or 'by_class' needs `data.order_by`.
  """
  own = {
    'data.order': order,
    'model.layers': 4,
    'model.width': 32,
    'training.steps': 60 if budget == 'quick' else 300,
    'probe.suite': ('linear',),
    'probe.linear.labels': (100,),
    'evaluators.validation.every': 1000,
    **NETWORKS[network],
    **NO_PROBE,
  }
  tuned_as = f'digits_small_{network}'
  return digits(objective, seed, budget, own, tuned_as, network=network, order=order)


# How documents of `repeats` repeat: a few words of their own, one word of four letters at a fixed
# distance, or not at all.
REPEATS: dict[str, dict[str, Any]] = {
  'words': {},
  'fixed distance': {'data.words': 1, 'data.shortest': 4, 'data.longest': 4},
  'nothing': {'data.repeating': 0.0},
}


def repeats(objective: str, seed: int, budget: str, repeating: str, length: float = 1.0) -> Spec:
  """Documents that repeat in one of REPEATS, two layers 64 wide, `length` times 600 updates of 64;
  the rate falls to zero then."""
  quick = budget == 'quick'
  steps = round(length * (60 if quick else 600))
  own = {
    'model.layers': 2,
    'training.steps': steps,
    'optimizer.warmup_steps': max(1, steps // 10),
    'evaluation.draws': 1,
    'evaluators.validation.every': 100,
    **REPEATS[repeating],
    **NO_PROBE,
    **_NO_SAMPLES,
    **_NO_LABEL_CODE,
  }
  return spec('repeats', objective, seed, own, 'repeats', repeating=repeating)


def pairs(objective: str, seed: int, budget: str) -> Spec:
  """Items and labels by a law of each document, 64 pairs; two layers 64 wide, 1,000 updates of
  16."""
  quick = budget == 'quick'
  own = {
    'model.layers': 2,
    'training.steps': 60 if quick else 1000,
    'evaluation.draws': 1,
    'evaluators.validation.every': 20 if quick else 200,
    **NO_PROBE,
    **_NO_SAMPLES,
    **_NO_LABEL_CODE,
    **({'optimizer.warmup_steps': 10} if quick else {}),
  }
  return spec('pairs', objective, seed, own, 'pairs')


def retellings(objective: str, seed: int, budget: str) -> Spec:
  """Stories, bare facts and questions, a world a seed; two layers 64 wide, 1,000 updates of 64."""
  quick = budget == 'quick'
  own = {
    'data.world': seed,
    'model.layers': 2,
    'training.steps': 60 if quick else 1000,
    'evaluation.draws': 1,
    'evaluators.validation.every': 20 if quick else 200,
    **NO_PROBE,
    **_NO_SAMPLES,
    **_NO_LABEL_CODE,
    **({'optimizer.warmup_steps': 10} if quick else {}),
  }
  return spec('retellings', objective, seed, own, 'retellings')


def markov(objective: str, seed: int, budget: str) -> Spec:
  """A Markov chain of 6 tokens of 4 values, a chain a seed; 400 updates of 128, nothing probed."""
  quick = budget == 'quick'
  own = {
    'training.steps': 60 if quick else 400,
    'evaluation.draws': 1,
    'evaluators.validation.every': 20 if quick else 100,
    'data.chain_seed': seed,
    **_NO_SAMPLES,
    **({'optimizer.warmup_steps': 10} if quick else {}),
  }
  return spec('markov', objective, seed, own, 'markov')
