"""What is measured of one set of parameters: bits, regret, probes, samples."""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import ml_collections
import numpy as np
import tqdm

from data.dataset import Examples
from objectives import Code, Network
from probes import baselines, suite
from probes.features import Features
from probes.measures import at
from runs import levels, measured
from runs.assembled import Experiment
from runs.errors import UserError
from runs.parts import Parts
from training import distributed, keys, sharding
from training.errors import Preempted, TrainingError


def assess(
  experiment: Experiment, params: Any, kept: Parts | None = None, choices: int = 1
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Bits and loss on test, every probe, and samples; (record, arrays).

  A probe that fails costs only itself: `record['probes_failed']` says why, by name. `choices` as
  `probe`.

  Raises:
    Preempted: a stop was requested; every piece that was finished is in `kept`.
  """
  kept = kept or Parts()
  record, arrays = measured.score(experiment, params, kept)
  record['probes'], failed, found = probe(experiment, params, kept=kept, choices=choices)
  arrays |= found
  for name, key, make in (
    ('levels', 'probes_by_level', lambda: levels.noisy(experiment, params, record['probes'])),
    ('latents', 'latents', lambda: levels.latents(experiment, params)),
  ):
    record[key], _ = surviving(
      failed, name, lambda n=name, m=make: kept.piece(n, lambda: (m(), {}), ('linear',))
    ) or (None, {})
  record['probes_failed'] = failed

  def draw() -> tuple[None, dict[str, np.ndarray]]:
    samples = sample(experiment, params)
    return None, {} if samples is None else {'samples': samples}

  arrays |= kept.piece('samples', draw)[1]
  if 'samples' in arrays and record['truth'] is not None:
    record['truth']['grammatical_samples'] = measured._grammatical(experiment, arrays['samples'])
  return record, arrays


def surviving(failed: dict[str, str], name: str, make: Callable[[], Any]) -> Any:
  """What `make()` gives; None, and the reason in `failed`, where it can't."""
  try:
    return make()
  except (Preempted, TrainingError):
    raise
  except Exception as error:
    if distributed.active() and isinstance(error, jax.errors.JaxRuntimeError):
      raise  # Another process was lost.
    text = str(error) if isinstance(error, ValueError) else f'{type(error).__name__}: {error}'
    failed[name] = ' '.join(text.split())[:300]
    return None


Probed = tuple[dict[str, Any], dict[str, str], dict[str, np.ndarray]]


def probe(
  experiment: Experiment,
  params: Any,
  only: tuple[str, ...] | None = None,
  kept: Parts | None = None,
  choices: int = 1,
) -> Probed:
  """Every configured probe (or `only` these) on every layer; as `fit_probes`.

  All are empty for a data set without labels. `choices`: checkpoints among which validation chose
  these parameters, or those that training started from.
  """
  if not experiment.probed:
    return {}, {}, {}

  @functools.cache
  def features() -> Features:
    total = sum(len(getattr(experiment.probe_dataset, s)) for s in ('train', 'validation', 'test'))
    with tqdm.tqdm(total=total, desc='features', unit='example', disable=None, leave=False) as bar:
      found = experiment.probe_features(params, progress=bar.update)
    return dataclasses.replace(found, choices=choices)

  return fit_probes(features, experiment.config, only, kept)


def fit_probes(
  features: Callable[[], Features],
  config: ml_collections.ConfigDict,
  only: tuple[str, ...] | None = None,
  kept: Parts | None = None,
) -> Probed:
  """Runs the probes of `config.probe.suite`, or `only` these; one that fails costs only itself.

  Subsets of few labels follow the pretraining seed of the features: the same for every objective,
  others for another seed. All else that is random in a probe follows the evaluation seed, the same
  for all runs.

  Args:
    features: called when the first probe needs them.
    config: of the run.
    only: which probes.
    kept: pieces of an earlier attempt, and of this one.

  Returns:
    Results by probe, why others failed, and arrays, prefixed with the probe's name.
  """
  kept = kept or Parts()
  names = config.probe.suite if only is None else only
  results, failed, arrays = {}, {}, {}
  with tqdm.tqdm(total=len(names), desc='probes', unit='probe', disable=None, leave=False) as bar:
    for name in names:
      bar.set_postfix_str(name)

      def fit(name: str = name) -> tuple[dict, dict[str, np.ndarray]]:
        return suite.run(features(), config.probe, config.evaluation.seed, (name,))

      # Fine-tuning may start at the layer that the linear probe chooses.
      found = surviving(
        failed, name, lambda n=name, f=fit: kept.piece(f'probe_{n}', f, (n, 'linear'))
      )
      if found is not None:
        results = suite.merged(results, found[0])
        arrays |= found[1]
      bar.update(1)
  if (mlp := at(results, ('mlp', 'all'))) is not None:
    mlp |= suite.linear_share(arrays)
  return results, failed, arrays


def all_probed(found: Probed) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
  """Results and arrays; UserError if a probe failed."""
  results, failed, arrays = found
  if failed:
    raise UserError('; '.join(f'probe {name} failed: {why}' for name, why in failed.items()))
  return results, arrays


def majority(experiment: Experiment) -> dict[str, Any] | None:
  """What guessing the commonest class gets on test; None without labels."""
  probed = experiment.probe_dataset
  if not experiment.probed or not isinstance(probed.train, Examples):
    return None
  return baselines.majority(probed.train.labels_N, probed.test.labels_N)


def sample(experiment: Experiment, params: Any) -> np.ndarray | None:
  """Examples drawn from the model, (count, T); None for an objective without a likelihood."""
  count, objective = experiment.config.evaluation.samples, experiment.objective
  if not count or not objective.trains or objective.code in (Code.NONE, Code.ESTIMATE):
    return None
  key = jax.random.fold_in(keys.key(experiment.config.evaluation.seed), 2)

  def draw(params: Any, key: jax.Array) -> jax.Array:
    apply, decode, extend = (
      functools.partial(f, params['backbone'])
      for f in (experiment.apply, experiment.decode, experiment.extend)
    )
    network = Network(apply, decode, experiment.cache, extend)
    return objective.sample(network, key, count, experiment.space)

  out = sharding.replicated(experiment.mesh)
  return np.asarray(jax.jit(draw, out_shardings=out)(params, key))
