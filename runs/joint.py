"""One model of images and labels beside the other codes of the labels of finished runs."""

from collections.abc import Sequence
import dataclasses
import os
from typing import Any

import numpy as np
import tqdm

from codes import joint
from probes import prequential
from reports import finding, label_sets, statistics
from runs import experiment, finished
from runs.errors import UserError

_WAYS = {
  'linear': '(b) frozen, linear',
  'MLP': '(b) frozen, MLP',
  'fine-tuned': '(c) pretrained, then fine-tuned',
}


# Code (d).
OWN = '(d) one model of X and Y'


def compare(
  workdirs: Sequence[str],
  dirs: Sequence[str],
  data_dir: str,
  weights: Sequence[float],
  steps: int | None,
  updates: int,
) -> dict[str, Any]:
  """Every code of every run, and code (d) less each of the others, paired by run.

  Args:
    workdirs: finished autoregressive runs, of one config but for their seeds.
    dirs, data_dir, weights, steps, updates: as of `measure`.

  Returns:
    runs (what `measure` returns, with workdir and seed), ways (mean, minimum and maximum of the
    bits of every code that all runs have, by its name, and low and high of the interval from five
    seeds on) and differences (the same of (d) less each other code, run by run).

  Raises:
    UserError: runs of one seed, or that differ in more.
  """
  configs_ = [finished.read(workdir)[0] for workdir in workdirs]
  seeds = [config.training.seed for config in configs_]
  if len(set(seeds)) < len(seeds):
    raise UserError(f'--workdir names runs of one seed twice: {", ".join(map(str, seeds))}')
  for workdir, config in zip(workdirs, configs_, strict=True):
    config.training.seed = seeds[0]
    if config.to_dict() != configs_[0].to_dict():
      raise UserError(f'{workdir} differs from {workdirs[0]} in more than its seed')
  runs = []
  for workdir, seed in zip(workdirs, seeds, strict=True):
    found = measure(workdir, dirs, data_dir, weights, steps, updates)
    runs.append({'workdir': workdir, 'seed': seed, **found})
  return {'runs': runs, **paired(runs)}


def paired(runs: Sequence[dict]) -> dict[str, dict]:
  """`compare`'s ways and differences."""
  bits = [{**run['others'], OWN: run['bits']} for run in runs]
  shared = [name for name in bits[0] if all(name in own for own in bits)]
  ways = {name: statistics.interval([own[name] for own in bits]) for name in shared}
  differences = {
    name: statistics.interval([own[OWN] - own[name] for own in bits])
    for name in shared
    if name != OWN
  }
  return {'ways': ways, 'differences': differences}


def measure(
  workdir: str,
  dirs: Sequence[str],
  data_dir: str,
  weights: Sequence[float],
  steps: int | None,
  updates: int,
) -> dict[str, Any]:
  """Code (d), `codes.joint.code`, for the labels of a run's own codes, and those codes.

  Args:
    workdir: a finished autoregressive run.
    dirs: where codes to compare with are.
    data_dir: prepared data sets.
    weights: of the label's cross-entropy, a network each.
    steps: updates on images alone; None for the run's.
    updates: before every block of labels.
  """
  config, _ = finished.read(workdir)
  built = experiment.build(config, data_dir, workdir)
  probed, slots = built.probe_dataset, built.objective.slots(built.space)
  if slots is None or len(built.objective.members()) > 1:
    raise UserError('only an autoregressive run has an order in which a label could come last')
  if not built.probed or built.dataset.epoch is None:
    raise UserError(f"'{built.dataset.name}' has no labelled training set")
  if built.objective.context:
    raise UserError('in a run with objective.context the label would not see the whole image')
  rows, labels = others(dirs, workdir)
  order = coded_rows(labels, probed)
  images, known = joint.rows_of(built.dataset, probed)
  model = dataclasses.replace(
    built.model,
    vocabulary=max(built.model.vocabulary, probed.classes),
    length=probed.dims + 1,
  )
  optimizer = config.optimizer.copy_and_resolve_references()
  optimizer.end_fraction = 1.0
  seed = config.training.seed
  networks = [joint.Network(model, probed.classes, w, optimizer, seed) for w in weights]
  steps = config.training.steps if steps is None else steps
  total = len(networks) * (steps + updates * (len(labels.blocks) - 1))
  with tqdm.tqdm(total=total, desc='joint', unit='update', disable=None, leave=False) as bar:
    made = joint.code(
      images[:, slots],
      known,
      order,
      networks,
      classes=probed.classes,
      first=labels.first,
      steps=steps,
      updates=updates,
      batch=config.training.batch_size,
      seed=seed,
      progress=bar.update,
    )
  return made | {
    'weights': list(weights), 'steps': steps, 'updates': updates, 'others': dict(rows)
  }  # fmt: skip


def others(dirs: Sequence[str], workdir: str) -> tuple[list[tuple[str, float]], label_sets.Labels]:
  """(a), (b) and (c) for the labels of the run's own codes, and which labels they are."""
  codes, _ = label_sets.read(finding.find([workdir, *dirs]))
  here = os.path.realpath(workdir)
  own = [c for c in codes if c.run and os.path.realpath(c.run['workdir']) == here]
  linear = [c for c in own if c.learner == 'linear']
  if not linear:
    raise UserError(f"{workdir} has no code of labels; name 'prequential' in config.probe.suite")
  groups, notes = label_sets.group(codes)
  found = next(((k, v) for k, v in groups.items() if linear[0] in v), None)
  if found is None:
    raise UserError('; '.join(notes))
  labels, members = found
  seed, size = linear[0].run['seed'], linear[0].size
  rows = [
    (f'(a) from scratch: {c.name}', c.bits)
    for c in members
    if c.kind == 'untrained' and c.learner == 'fine-tuned' and c.size == size
    and c.run['seed'] == seed
  ]  # fmt: skip
  rows += [(_WAYS[c.learner], c.bits) for c in members if c in own]
  return sorted(rows), labels


def coded_rows(labels: label_sets.Labels, probed: Any) -> np.ndarray:
  """Rows of the probed train split in the order of RUN's codes; UserError if it is another one."""
  order = prequential.coding_order(len(probed.train), labels.count, labels.seed)
  same = labels.data == probed.digest and len(order) == labels.count
  if not same or labels.order not in (None, label_sets.digest(order)):
    raise UserError(
      "the labels of RUN's codes are not those of its config.json; launch.probe --workdir=RUN "
      'makes the codes again'
    )
  return order
