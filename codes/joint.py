r"""Bits of the labels Y: from scratch, given a representation of X, and by one model of X and Y.

python -m codes.joint --workdir=RUN --others=DIR

RUN is a finished autoregressive run. Four prequential codes of the same labels, in the same order
and blocks (`reports.label_sets`):

(a) from scratch: an untrained backbone, fine-tuned on the labels so far (from --others);
(b) the frozen backbone: linear and MLP probes (RUN's record);
(c) the backbone pretrained on X, then fine-tuned (RUN's record, by launch.finetune);
(d) one network trained on X and on Y as sequences of an image and its label, made here.

For (d) the label is one more token after the image's, whose order is RUN's. The network of RUN's
shape is first trained on images as RUN was, then goes on: before every block of labels it makes
`--updates` updates, half of each batch examples with the labels sent so far and half of them images
without. What the label's cross-entropy weighs against a pixel's is not chosen but paid for: there
is a network for each weight, and they and the predictor without features form one Bayes mixture, as
in `probes.finetune`.
"""

import collections
from collections.abc import Sequence
import dataclasses
import json
import math
import os
from typing import Any

from absl import flags
import jax
import jax.numpy as jnp
import numpy as np

from codes import prequential
from launch import entry
from models import transformer
from objectives import autoregressive, base
from probes import mixture
from probes import prequential as label_code
from reports import label_sets
from runs.errors import UserError
from training import optimizer as optimizer_lib
from training import preemption, sharding
from training import state as state_lib

FIRST = 10
_WAYS = {
  'linear': '(b) frozen, linear',
  'MLP': '(b) frozen, MLP',
  'fine-tuned': '(c) pretrained, then fine-tuned',
}


@dataclasses.dataclass(frozen=True)
class ImageAndLabel(autoregressive.Autoregressive):
  """Next-token prediction of an image's tokens and then of its label, where it is known.

  Settings:
    label_weight: of the label's cross-entropy; a pixel's is 1.
  """

  label_weight: float = 1.0

  def view(self, example: base.Example, space: base.Space) -> base.View:
    view = super().view(example, space)
    last_T = jnp.arange(space.length) == space.dims - 1
    weight = jnp.where(example.label >= 0, self.label_weight, 0.0)
    return view._replace(weights_T=jnp.where(last_T, weight, view.weights_T))


class Network:
  """One network that is trained on images, and on images with labels."""

  def __init__(self, model: Any, classes: int, weight: float, optimizer: Any, seed: int):
    self._classes = classes
    space = base.Space(model.vocabulary, model.length, model.length)
    objective = ImageAndLabel(label_weight=weight)
    task = prequential.make_task(model, objective, space, seed)
    # The rate stays where it is after the warm-up: how long training lasts is not known before.
    made = optimizer_lib.make_optimizer(optimizer, steps=2**30)
    self._mesh = sharding.make_mesh()
    self._state = state_lib.init_state(task, made, self._mesh)
    update = state_lib.make_update(task, made, optimizer.clip_norm)
    self._update = jax.jit(update, donate_argnums=0)
    self._apply = jax.jit(self._forward(transformer.make_apply(model)))

  def _forward(self, apply: Any) -> Any:
    def logits(params: Any, tokens_BxT: jax.Array) -> jax.Array:
      out = apply(params['backbone'], tokens_BxT, pattern=('causal',), shift=True)
      return out.logits_BxTxV[:, -1, : self._classes]

    return logits

  def train(self, tokens_NxT: np.ndarray, labels_N: np.ndarray, rows_SxB: np.ndarray) -> None:
    """One update for each row of `rows_SxB`; labels of -1 are not known."""
    before = None
    for rows in rows_SxB:
      preemption.check()
      batch = {'tokens': tokens_NxT[rows], 'label': labels_N[rows].astype(np.int32)}
      batch = sharding.place_batch(batch, self._mesh)
      jax.block_until_ready(before)
      self._state, before = self._update(self._state, batch)

  def probabilities(self, tokens_NxT: np.ndarray, size: int = 256) -> np.ndarray:
    """Of the label given the image, (N, K) float64: softmax over the labels' tokens alone."""
    found = []
    for start in range(0, len(tokens_NxT), size):
      part = tokens_NxT[start : start + size]
      padded = np.pad(part, ((0, size - len(part)), (0, 0)))
      found.append(np.asarray(self._apply(self._state.params, padded), np.float64)[: len(part)])
    logits = np.concatenate(found)
    p = np.exp(logits - logits.max(-1, keepdims=True))
    return p / p.sum(-1, keepdims=True)


def code(
  images_NxT: np.ndarray,
  labels_N: np.ndarray,
  order: np.ndarray,
  networks: Sequence[Network],
  *,
  classes: int,
  first: int,
  steps: int,
  updates: int,
  batch: int,
  seed: int,
  progress: Any = lambda updates: None,
) -> dict[str, Any]:
  """The prequential code of the labels by networks that learn X and Y.

  Args:
    images_NxT: all of X.
    labels_N: their labels, of which a network is only ever given those already sent; -1 for none.
    order: rows in the order in which their labels are sent, all of them labelled.
    networks: the experts, fresh.
    classes: K.
    first: labels of the first block, coded uniformly.
    steps: updates on images alone, before any label.
    updates: before every later block.
    batch: rows of an update; half of them labelled once there are labels.
    seed: of the rows drawn.
    progress: told of updates made.

  Returns:
    bits, uniform, labels, expert_bits (of each network alone, not paid for) and curve.
  """
  # The label's place is for its token; where it is not known the loss does not look at it.
  tokens = np.concatenate([images_NxT, np.zeros((len(images_NxT), 1))], 1).astype(np.int32)
  labels = labels_N[order]
  nats = np.full((1 + len(networks), len(order)), math.log(classes))
  nats[0] = label_code.featureless(labels, classes, first)
  blocks = label_code.blocks(len(order), first)
  for place, network in enumerate(networks, 1):
    rng = np.random.default_rng((seed, place))
    known = np.full(len(tokens), -1)
    hidden = tokens.copy()
    network.train(hidden, known, rng.integers(0, len(tokens), (steps, batch)))
    progress(steps)
    for start, stop in blocks[1:]:
      sent = order[:start]
      known[sent], hidden[sent, -1] = labels_N[sent], labels_N[sent]
      with_labels = rng.choice(sent, (updates, batch // 2))
      without = rng.integers(0, len(tokens), (updates, batch - batch // 2))
      # An image drawn as one without a label may have one by now: then it counts as well.
      network.train(hidden, known, np.concatenate([with_labels, without], 1))
      progress(updates)
      p = network.probabilities(hidden[order[start:stop]])
      p = mixture.smooth(p, np.bincount(labels[:start], minlength=classes))
      nats[place, start:stop] = -np.log(p[np.arange(stop - start), labels[start:stop]])
  bits = mixture.code_lengths(nats)
  return {
    'bits': float(bits.sum()),
    'uniform': len(order) * math.log2(classes),
    'labels': len(order),
    'expert_bits': [float(row.sum()) / math.log(2) for row in nats[1:]],
    'curve': [{'labels': a, 'bits': float(bits[a:b].mean())} for a, b in blocks],
  }


def others(dirs: Sequence[str], workdir: str) -> tuple[list[tuple[str, float]], label_sets.Labels]:
  """(a), (b) and (c) for the labels of the run's own codes, and which labels they are."""
  from reports import reading

  codes, _ = label_sets.read(reading.find([workdir, *dirs]))
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
  order = label_code.coding_order(len(probed.train), labels.count, labels.seed)
  same = labels.data == probed.digest and len(order) == labels.count
  if not same or labels.order not in (None, label_sets.digest(order)):
    raise UserError(
      "the labels of RUN's codes are not those of its config.json; launch.probe --workdir=RUN "
      'makes the codes again'
    )
  return order


def rows_of(dataset: Any, probed: Any) -> tuple[np.ndarray, np.ndarray]:
  """All of X, the labelled rows first, and their labels; -1 for images that are pretrained on only.

  The labelled rows are part of X where they are of the same data set.
  """
  some, every = probed.train, dataset.train
  tokens = some.tokens_NxT[:, : probed.dims]
  more = every.tokens_NxT[:, : dataset.dims]
  if dataset.name == probed.name:
    # Those that are labelled are there already, as often as they occur.
    left = collections.Counter(row.tobytes() for row in tokens)
    fresh = np.ones(len(more), bool)
    for i, row in enumerate(more):
      if left[row.tobytes()] > 0:
        left[row.tobytes()] -= 1
        fresh[i] = False
    more = more[fresh]
  images = np.concatenate([tokens, more])
  return images, np.concatenate([some.labels_N, np.full(len(more), -1)])


def main(argv: Sequence[str]) -> None:
  chosen = flags.FLAGS
  weights = _check(argv)
  from runs import configs, experiment, run

  preemption.end_at_once()
  record = run.read_record(chosen.workdir)
  if record is None:
    raise UserError(f'{chosen.workdir} is not finished; launch.train goes on with it')
  config = configs.with_new_probes(configs.from_plain(configs.read_saved(chosen.workdir)['config']))
  built = experiment.build(config, chosen.data_dir)
  if built.objective.slots(built.space) is None:
    raise UserError('only an autoregressive run has an order in which a label could come last')
  if not built.probed or built.dataset.epoch is None:
    raise UserError(f"'{built.dataset.name}' has no labelled training set")
  if built.objective.context:
    raise UserError('in a run with objective.context the label would not see the whole image')
  rows, labels = others(chosen.others, chosen.workdir)
  dataset = built.probe_dataset
  order = coded_rows(labels, dataset)
  images, known = rows_of(built.dataset, dataset)
  images = images[:, built.objective.slots(built.space)]
  model = dataclasses.replace(
    built.model,
    vocabulary=max(built.model.vocabulary, dataset.classes),
    length=dataset.dims + 1,
  )
  optimizer = config.optimizer.copy_and_resolve_references()
  optimizer.end_fraction = 1.0
  networks = [
    Network(model, dataset.classes, weight, optimizer, config.training.seed) for weight in weights
  ]
  steps = config.training.steps if chosen.steps is None else chosen.steps
  total = len(networks) * (steps + chosen.updates * (len(labels.blocks) - 1))
  import tqdm

  with tqdm.tqdm(total=total, desc='joint', unit='update', disable=None, leave=False) as bar:
    made = code(
      images,
      known,
      order,
      networks,
      classes=dataset.classes,
      first=labels.first,
      steps=steps,
      updates=chosen.updates,
      batch=config.training.batch_size,
      seed=config.training.seed,
      progress=bar.update,
    )
  made |= {'weights': weights, 'steps': steps, 'updates': chosen.updates, 'others': dict(rows)}
  print('\n'.join(lines(made)))
  if chosen.out:
    from training.metrics import write_atomically

    write_atomically(chosen.out, json.dumps(made, indent=1) + '\n')


def _check(argv: Sequence[str]) -> list[float]:
  """The weights of the label; UserError for flags that are wrong."""
  chosen = flags.FLAGS
  if len(argv) > 1:
    raise UserError(f"'{argv[1]}' is not a flag; flags start with --")
  if chosen.workdir is None:
    raise UserError('--workdir=DIR (a finished autoregressive run) is needed')
  if chosen.updates < 1 or (chosen.steps is not None and chosen.steps < 0):
    raise UserError('--updates must be at least 1 and --steps not negative')
  entry.check_out(chosen.out)
  weights = entry.numbers('label_weights', chosen.label_weights, float)
  if min(weights) <= 0:
    raise UserError(f'--label_weights must be above 0, not {min(weights):g}')
  return weights


def lines(made: dict[str, Any]) -> list[str]:
  """The codes for people."""
  found = [f'{made["labels"]:,} labels, uniform {made["uniform"]:,.0f} bits']
  for name, bits in [*made['others'].items(), ('(d) one model of X and Y', made['bits'])]:
    found.append(f'{name:60} {bits:9,.0f} bits')
  alone = ', '.join(
    f'{bits:,.0f} at weight {weight:g}'
    for weight, bits in zip(made['weights'], made['expert_bits'], strict=True)
  )
  found.append(f'of (d), each network by itself, not paid for: {alone}')
  ways = {
    '(a)': '--others=DIR names an untrained run of this seed, fine-tuned',
    '(c)': 'launch.finetune --workdir=RUN makes it',
  }
  return found + [
    f'{way} is not there: {how}'
    for way, how in ways.items()
    if not any(name.startswith(way) for name in made['others'])
  ]


def _define_flags() -> None:
  flags.DEFINE_string('workdir', None, 'A finished autoregressive run.')
  flags.DEFINE_list('others', [], 'Where codes to compare with are: an untrained run, fine-tuned.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_list('label_weights', ['1', '8', '64'], "Of the label's cross-entropy.")
  flags.DEFINE_integer('steps', None, "On images alone; default: the run's.")
  flags.DEFINE_integer('updates', 100, 'Before every block of labels.')
  flags.DEFINE_string('out', None, 'Write the result here, as JSON.')


if __name__ == '__main__':
  _define_flags()
  entry.run(main)
