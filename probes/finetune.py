"""Fine-tuning: what the whole network reaches when the labels may change all of it.

The classifier is a linear map of the sequence mean of one layer's normalised output (a probe's
headline features), starting at zero; it and the backbone minimise L_CLF + c L_GEN, cross-entropy of
the label plus c times the objective's own training loss on the same examples (Radford et al., 2018;
Chen et al., 2020). A fit is a function of its labelled rows, its settings and the seed, so the same
fit made twice is the same.

*   All labels: learning rate and early stop have the best validation accuracy.
*   n labels: they have the best cross-validated accuracy inside those n, as the linear probe's
    layer and penalty; at 10 labels, or one or so a class, they are declared beforehand.
*   Code length: the labels are sent block by block as in `probes.prequential`; the experts are
    every learning rate at every checkpoint, plain and calibrated on the block before, and the
    predictors that see no features, under one switching prior: tuning is paid for, and no label is
    predicted by a network that has seen it. It is of several orders of the same labels.

The layer is the last, or (`config.layer` 'best') the linear probe's choice from the labels that the
fit may see: on validation for all labels, by cross-validation inside n labels, and the middle one
where there is nothing to cross-validate.
"""

from collections.abc import Sequence
import math
from typing import Protocol

import ml_collections
import numpy as np

from probes import calibration, linear, logistic, mixture, prequential, selection

# Streams of the fits' seeds: no two settings share the order of their rows by accident.
_ALL, _FEW, _CODE = 0, 1, 2


class Tuner(Protocol):
  """Fine-tunes a fresh copy of one pretrained network; a pure function of its arguments.

  Args:
    rows: (n,) of the train split, each once.
    labels: (n,) theirs.
    layer: whose mean over the sequence is classified.
    learning_rate: peak.
    at: increasing numbers of updates at which to predict; the last ends the training.
    ask: (split, rows) to predict.
    batch_size: labelled rows an update.
    generative: c, the weight of the objective's own loss.
    weight_decay: of AdamW.
    warmup: updates of linear warm-up; the rate is constant after it.
    seed: of the order of the rows and of the objective's noise.

  Returns:
    Logits (len(at), asked rows, classes), float32.
  """

  def __call__(
    self,
    rows: np.ndarray,
    labels: np.ndarray,
    *,
    layer: int,
    learning_rate: float,
    at: Sequence[int],
    ask: tuple[str, np.ndarray],
    batch_size: int,
    generative: float,
    weight_decay: float,
    warmup: int,
    seed: Sequence[int],
  ) -> np.ndarray: ...


def evaluate(features, config, seed: int) -> tuple[dict, dict]:
  """Fine-tunes with all labels, with each number of labels, and for the code of the labels.

  Args:
      features: probes.features.Features; without a `tuner` there is nothing to fine-tune.
      config: `config.probe.finetune`: labels, draws, folds, layer, l2 (of the layer's choice),
          learning_rates, single_learning_rate, steps, all_steps, checkpoints, batch_size,
          generative, weight_decay, warmup, validation_rows, prequential (rows, first, orders,
          learning_rates, steps, checkpoints; rows 0 for none). Without all_steps not with all.
      seed: of the deals of subsets, of folds and orders; draw d of n labels has the labels of the
          linear probe's draw d where both have as many draws.

  Returns:
      results: a dict for 'all' and for each number of labels as a string.
          'all': accuracy, stderr (binomial, over test examples), cross_entropy (test, nats an
          example), layer, learning_rate, step, validation (accuracy of the choice), labels, epochs,
          and code: bits (mean over orders), bits_orders, spread (standard deviation over orders,
          None for one), uniform, majority (of the classes alone), labels, prior, layer (one a
          block, of the first order), expert_bits (the best expert's, mean over orders, not paid
          for) and curve, the mean bits a label of every block.
          n: accuracy and cross_entropy, means over draws; stderr over draws, None for one; draws,
          layer, learning_rate and step, one entry a draw.
          left_out: as the linear probe's.
      arrays: 'all/predictions' (N_test,), 'n/predictions' (draws, N_test), int32; 'code/bits' (n,)
          float32 in the first order and 'code/order' (n,) int32.

  Raises:
      ValueError: features that can't be probed, unknown layer, training that diverged.
  """
  if features.tuner is None:
    return {}, {}
  if config.layer not in ('last', 'best'):
    raise ValueError(f"finetune.layer must be 'last' or 'best', not '{config.layer}'")
  selection.check(features, ('train', 'validation', 'test'))
  sizes, left_out = selection.fitting(features.labels_train, config.labels, features.classes)
  results, arrays = {'left_out': left_out} if left_out else {}, {}
  for size in sizes:
    results[str(size)], arrays[f'{size}/predictions'] = _few_labels(features, config, seed, size)
  if config.all_steps:
    results['all'], arrays['all/predictions'] = _all_labels(features, config, seed)
  if config.prequential.rows:
    code, found = _code(features, config, seed)
    results.setdefault('all', {})['code'] = code
    arrays |= {f'code/{name}': value for name, value in found.items()}
  return results, arrays


def checkpoints(steps: int, count: int) -> tuple[int, ...]:
  """Up to `count` equally spaced numbers of updates, the last being `steps`."""
  return tuple(sorted({max(1, round(steps * (i + 1) / count)) for i in range(count)}))


def _fit(features, config, rows, *, ask, at, rate, layer, seed) -> np.ndarray:
  """Logits of one fit, checked."""
  logits = features.tuner(
    np.asarray(rows),
    np.asarray(features.labels_train)[rows],
    layer=layer,
    learning_rate=float(rate),
    at=tuple(at),
    ask=ask,
    batch_size=config.batch_size,
    generative=float(config.generative),
    weight_decay=float(config.weight_decay),
    warmup=config.warmup,
    seed=seed,
  )
  if not np.isfinite(logits).all():
    raise ValueError(f'fine-tuning at learning rate {rate:g} diverged; lower it')
  return np.asarray(logits, np.float64)


def _scores(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Accuracy and cross-entropy (nats) of logits (..., n, K), means over n."""
  correct = (logits.argmax(-1) == labels).mean(-1)
  return correct, logistic.cross_entropy(logits, labels).mean(-1)


def _all_labels(features, config, seed: int) -> tuple[dict, np.ndarray]:
  count = len(features.labels_train)
  rows, at = np.arange(count), checkpoints(config.all_steps, config.checkpoints)
  layer = len(features.train) - 1
  if config.layer == 'best':
    layer = linear.validated(features, _grid(config))['layer']
  held = np.random.default_rng((seed, _ALL)).permutation(len(features.labels_validation))
  held = np.sort(held[: config.validation_rows])
  settings = {'layer': layer, 'seed': (seed, _ALL)}
  scores = [
    _scores(
      _fit(features, config, rows, ask=('validation', held), at=at, rate=rate, **settings),
      np.asarray(features.labels_validation)[held],
    )
    for rate in config.learning_rates
  ]
  accuracy, nats = (np.stack(parts) for parts in zip(*scores, strict=True))
  i, j = selection.choose(accuracy, nats)
  rate, step = float(config.learning_rates[i]), at[j]
  predictions, correct, entropy = _test(features, config, rows, rate=rate, step=step, **settings)
  return {
    'accuracy': correct,
    'stderr': math.sqrt(correct * (1 - correct) / len(predictions)),
    'cross_entropy': entropy,
    'layer': layer,
    'learning_rate': rate,
    'step': step,
    'validation': float(accuracy[i, j]),
    'labels': count,
    'epochs': step * config.batch_size / count,
  }, predictions


def _test(features, config, rows, *, rate, step, layer, seed) -> tuple[np.ndarray, float, float]:
  """Predictions, accuracy and cross-entropy on test of the one chosen fit, made again."""
  everything = np.arange(len(features.labels_test))
  asked = {'ask': ('test', everything), 'at': (step,)}
  logits = _fit(features, config, rows, rate=rate, layer=layer, seed=seed, **asked)[0]
  correct, entropy = _scores(logits, np.asarray(features.labels_test))
  return logits.argmax(-1).astype(np.int32), float(correct), float(entropy)


def _few_labels(features, config, seed: int, size: int) -> tuple[dict, np.ndarray]:
  """Mean over draws of `size` labels, and predictions (draws, N_test)."""
  found = []
  for number in selection.subset_numbers(features, config.draws):
    labels = features.labels_train
    rows = selection.disjoint_subset(labels, size, features.classes, seed, number)
    layer = _layer(features, config, rows, (seed, number, size))
    rate, step = _cross_validated(features, config, rows, layer, (seed, number, size))
    asked = {'layer': layer, 'seed': (seed, _FEW, number, size)}
    tested = _test(features, config, rows, rate=rate, step=step, **asked)
    found.append((layer, rate, step, *tested))
  layers, rates, steps, predictions, correct, entropies = zip(*found, strict=True)
  draws = len(correct)
  return {
    'accuracy': float(np.mean(correct)),
    'stderr': float(np.std(correct, ddof=1) / math.sqrt(draws)) if draws > 1 else None,
    'cross_entropy': float(np.mean(entropies)),
    'draws': list(correct),
    'layer': list(layers),
    'learning_rate': list(rates),
    'step': list(steps),
  }, np.stack(predictions)


def _cross_validated(features, config, rows, layer: int, seed) -> tuple[float, int]:
  """Learning rate and early stop from inside the labelled rows, or as declared."""
  at = checkpoints(config.steps, config.checkpoints)
  if not _enough(features, len(rows)):
    return float(config.single_learning_rate), config.steps
  labels = np.asarray(features.labels_train)[rows]
  fold = selection.stratified_folds(labels, config.folds, seed)
  accuracy, nats = np.zeros((2, len(config.learning_rates), len(at)))
  for i, rate in enumerate(config.learning_rates):
    for k in range(config.folds):
      held = rows[fold == k]
      logits = _fit(
        features, config, rows[fold != k], ask=('train', held), at=at, rate=rate, layer=layer,
        seed=(seed[0], _FEW, *seed[1:], k),
      )  # fmt: skip
      correct, entropy = _scores(logits, labels[fold == k])
      # Every row is held out once: sums over folds weigh all rows alike.
      accuracy[i] += correct * len(held) / len(rows)
      nats[i] += entropy * len(held) / len(rows)
  i, j = selection.choose(accuracy, nats)
  return float(config.learning_rates[i]), at[j]


def _enough(features, size: int) -> bool:
  """Whether there is something to cross-validate: the linear probe's rule."""
  return size > 10 and size >= 2 * features.classes


def _grid(config) -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict({'l2': config.l2, 'few_l2': config.l2, 'folds': config.folds})


def _layer(features, config, rows: np.ndarray, seed) -> int:
  """The layer to classify, from these labelled rows alone."""
  if config.layer == 'last':
    return len(features.train) - 1
  counts = np.bincount(np.asarray(features.labels_train)[rows], minlength=features.classes)
  if not _enough(features, len(rows)) or counts.min() < 2:
    return len(features.train) // 2
  return linear.cross_validated_layer(features, _grid(config), rows, seed)


def _code(features, config, seed: int) -> tuple[dict, dict]:
  """The prequential code of the train labels, and bits and order of every label."""
  own, classes = config.prequential, features.classes
  if own.orders < 1:
    raise ValueError(f'finetune.prequential.orders must be at least 1, not {own.orders}')
  order = prequential.coding_order(len(features.labels_train), own.rows, seed)
  starts = prequential.blocks(len(order), own.first)
  bits, best, layers, majority = [], [], [], []
  for number, again in enumerate(prequential.orders(len(order), own.orders, seed)):
    sent = order[again]
    labels = np.asarray(features.labels_train)[sent]
    nats, chosen = _nats(features, config, sent, seed, number)
    bits.append(mixture.code_lengths(nats))
    best.append(float(nats.sum(1).min()) / math.log(2))
    layers.append(chosen)
    majority.append(prequential.majority_bits(labels, classes, own.first))
  lengths = [float(bits_N.sum()) for bits_N in bits]
  mean_N = np.mean(bits, 0)
  return {
    'bits': float(np.mean(lengths)),
    'bits_orders': lengths,
    'spread': float(np.std(lengths, ddof=1)) if len(lengths) > 1 else None,
    'uniform': len(order) * math.log2(classes),
    'majority': float(np.mean(majority)),
    'expert_bits': float(np.mean(best)),
    'labels': len(order),
    'prior': mixture.PRIOR,
    'layer': layers[0],
    'curve': [{'labels': a, 'bits': float(mean_N[a:b].mean())} for a, b in starts],
  }, {'bits': bits[0].astype(np.float32), 'order': order.astype(np.int32)}


def _nats(features, config, order: np.ndarray, seed: int, number: int) -> tuple:
  """Nats (experts, n) of the labels of these rows in this order, and the layer of every block."""
  own, classes = config.prequential, features.classes
  labels = np.asarray(features.labels_train)[order]
  at = checkpoints(own.steps, own.checkpoints)
  experts = 2 * len(own.learning_rates) * len(at)
  # In the uniform block every expert is uniform: the mixture learns nothing there.
  nats = np.full((prequential.BLIND + experts, len(order)), math.log(classes))
  nats[: prequential.BLIND] = prequential.featureless(labels, classes, own.first)
  layers, powers = [], calibration.Powers()
  for start, stop in prequential.blocks(len(order), own.first)[1:]:
    # The first order's fits are as they were when there was no other.
    again = (seed, start) if number == 0 else (seed, start, number)
    layer = _layer(features, config, order[:start], again)
    layers.append(layer)
    logits = np.concatenate(
      [
        _fit(
          features, config, order[:start], ask=('train', order[start:stop]), at=at, rate=rate,
          layer=layer, seed=(seed, _CODE, *again[1:]),
        )
        for rate in own.learning_rates
      ]
    )  # fmt: skip
    powers.begin(labels[:start])
    p = mixture.smooth(powers.both(logits), np.bincount(labels[:start], minlength=classes))
    rows = np.arange(stop - start)
    nats[prequential.BLIND :, start:stop] = -np.log(p[:, rows, labels[start:stop]])
  return nats, layers
