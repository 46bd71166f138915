"""Linear probe: multinomial logistic regression on the standardised features of every layer.

With all labels, layer and l2 are chosen on the validation split. With n labels they come from
cross-validation inside those n, and where n is too small for that both are declared beforehand (the
middle layer, `config.single_l2`). Only the one chosen fit of each setting sees the test split.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from probes import information, linear_mesh, logistic, selection
from probes import mesh as mesh_lib
from probes.layers import Layers, rows_of

BATCH_BYTES = 256 * 2**20  # Standardised float64 features held at once.


def evaluate(features, config, seed: int) -> tuple[dict, dict]:
  """Probes one network (or control) with all labels and with each number of labels.

  Args:
      features: train, validation, test (layers, N, D); labels_train, labels_validation,
          labels_test (N,) integers; classes.
      config: labels (numbers of labels), draws, folds, l2 (grid with all labels), few_l2 (grid
          inside subsets), single_l2 (where there is no choice).
      seed: of the deals of label subsets and of the folds, the same for every run. Draw d of n
          labels has subset number k = pretraining_seed * draws + d of `selection.disjoint_subset`
          and folds of (seed, k, n), and nothing else: networks of one pretraining seed are probed
          with the same labels, those of different seeds with labels that they do not share, as far
          as the training rows reach.

  Returns:
      results: a dict for 'all' and for each number of labels as a string.
          'all': layer, l2, accuracy, stderr (binomial, over test examples), cross_entropy (test,
          nats an example), by_layer_validation (each layer's best accuracy over l2), certificate
          (largest bound on nats to the optimum over all fits); usable_bits (test, bits an
          example), usable_layer, usable_l2 and usable_bits_by_layer_validation, of the fits of the
          lowest validation cross-entropy.
          n: layer, l2 and draws (test accuracy), one entry a draw; accuracy and cross_entropy,
          means over draws; stderr, the standard deviation over draws / sqrt(draws), None for one
          draw: it covers the choice of labels, not the test examples; by_layer_cv, each layer's
          best cross-validated accuracy over l2, mean over draws, None without cross-validation;
          certificate; subsets, the number of each draw's subset, and disjoint, how many subsets
          the training rows hold without sharing a row.
          left_out: number of labels -> why it has no result, where it is below the number of
          classes or the training split has no balanced subset so large; absent if all have.
      arrays: 'all/predictions' (N_test,), 'n/predictions' (draws, N_test), int32;
          'all/usable_bits' (N_test,) float32, whose mean is usable_bits.

  Raises:
      ValueError: features that are not finite, shapes that do not match, a class without training
          examples, a fit that cannot be certified.
  """
  selection.check(features, ('train', 'validation', 'test'))
  whole, predictions, usable = _all_labels(features, config)
  left_out = selection.fitting(features.labels_train, config.labels, features.classes)[1]
  results, arrays = few(features, config, seed)
  results = ({'left_out': left_out} if left_out else {}) | {'all': whole} | results
  return results, {'all/predictions': predictions, 'all/usable_bits': usable} | arrays


def few(features, config, seed: int) -> tuple[dict, dict]:
  """The part of `evaluate` that follows `features.pretraining_seed`: each number of labels."""
  sizes, _ = selection.fitting(features.labels_train, config.labels, features.classes)
  results, arrays = {}, {}
  for size in sizes:
    numbers = selection.subset_numbers(features, config.draws)
    subsets = [
      selection.disjoint_subset(features.labels_train, size, features.classes, seed, number)
      for number in numbers
    ]
    # Ten labels, or one a class, leave nothing to cross-validate.
    if size <= 10 or size < 2 * features.classes:
      chosen = _without_choice(features, config, subsets)
    else:
      labels = np.asarray(features.labels_train)
      fold = [
        selection.stratified_folds(labels[rows], config.folds, (seed, number, size))
        for number, rows in zip(numbers, subsets, strict=True)
      ]
      chosen = _cross_validated(features, config, subsets, fold)
    results[str(size)], arrays[f'{size}/predictions'] = _few_labels(features, *chosen)
    disjoint = selection.disjoint_subsets(features.labels_train, size, features.classes)
    results[str(size)] |= {'subsets': numbers, 'disjoint': disjoint}
  return results, arrays


def quick(features, config) -> float:
  """Validation accuracy of the best layer under one l2 and the labels of `selection.quick`.

  For curves during training. The labels are a fixed balanced subset, the l2 is `single_l2`, and
  the test split is not touched.

  Raises:
      ValueError: as `evaluate`.
  """
  selection.check(features, ('train', 'validation'))
  labels = np.asarray(features.labels_train)
  rows = selection.quick(labels, features.classes)
  train, mean, scale = _standardised(rows_of(features.train, slice(None), rows))
  fits = features.once(
    lambda: logistic.fit(train, labels[rows], [config.single_l2], classes=features.classes)
  )
  if isinstance(features.validation, Layers):
    return max(
      linear_mesh.judged(features.validation, layer, features.labels_validation, *fit)[0]
      for layer, fit in enumerate(
        zip(fits.weights[:, 0], fits.bias[:, 0], mean, scale, strict=True)
      )
    )
  validation = selection.standardise(features.validation, mean, scale)
  scores = logistic.logits(validation, fits.weights[:, 0], fits.bias[:, 0])
  return float((scores.argmax(-1) == features.labels_validation).mean(-1).max())


def validated(features, config) -> dict:
  """The linear probe with all labels, judged on validation; the test split is not touched.

  Returns:
    validation (accuracy of the chosen layer and l2), layer, l2, by_layer_validation.
  """
  selection.check(features, ('train', 'validation'))
  layer, j, accuracy, *_ = _choose(features, config)
  return {
    'validation': float(accuracy[layer, j]),
    'layer': layer,
    'l2': float(config.l2[j]),
    'by_layer_validation': accuracy.max(1).tolist(),
  }


def cross_validated_layer(features, config, rows: np.ndarray, seed) -> int:
  """The layer that cross-validation inside labelled train rows chooses; nothing else is seen.

  Args:
      config: folds and few_l2.
      rows: of the train split; every class they hold has two at least.
      seed: of the folds.
  """
  fold = selection.stratified_folds(np.asarray(features.labels_train)[rows], config.folds, seed)
  chosen, _, _, _ = _cross_validated(features, config, [rows], [fold])
  return chosen[0][0]


def _choose(features, config, family: information.Family | None = None) -> tuple:
  """Fits every layer and l2 on all training labels and chooses on validation.

  Returns:
    layer, index of l2, validation accuracy (layers, l2) and, where there is a `family`, nats as its
    member (layers, l2), the fits by layer (weights, bias, mean, scale) of those layers that can be
    asked for, and what is told of all of them: the largest certificate, engine and precision.
  """
  mesh = linear_mesh.mesh_of(features, config)
  if mesh is None:
    made = features.once(lambda: list(_on_host(features, config)))
  else:
    made = linear_mesh.fits(features, config, mesh)
  accuracy, entropy, members, fitted, certificate = [], [], [], {}, 0.0
  for fit, right, nats, bound in made:
    accuracy.append(right)
    entropy.append(nats.mean(-1))
    layer, j = selection.choose(np.stack(accuracy), np.stack(entropy))
    if family is not None:
      members.append(family.nats(nats, features.labels_validation).mean(-1))
      fitted[len(members) - 1] = fit
      kept = (layer, _lowest(members)[0])
      fitted = {number: fit for number, fit in fitted.items() if number in kept}
    certificate = max(certificate, bound)
  precision = 'float64' if mesh is None else mesh_lib.precision(mesh)
  told = {'certificate': float(certificate), 'precision': precision}
  told['engine'] = 'host' if mesh is None else 'mesh'
  return layer, j, np.stack(accuracy), np.array(members), fitted, told


def _lowest(nats: Any) -> tuple[int, int]:
  """Layer and l2 of the least of nats (layers, l2)."""
  nats = np.asarray(nats)
  layer, j = np.unravel_index(nats.argmin(), nats.shape)
  return int(layer), int(j)


def _on_host(features, config) -> Iterator[tuple]:
  """For each layer its fits, accuracy (l2,) and nats (l2, N) on validation, largest certificate."""
  labels, validation = np.asarray(features.labels_train), features.labels_validation
  for layers in _batches(features.train, features.train.shape[1]):
    train, mean, scale = _standardised(features.train[layers])
    fits = logistic.fit(
      train, labels, config.l2, classes=features.classes, names=_names(layers, 'all labels')
    )
    held_out = selection.standardise(features.validation[layers], mean, scale)
    scores = logistic.logits(held_out[:, None], fits.weights, fits.bias)
    accuracy = (scores.argmax(-1) == validation).mean(-1)
    entropy = logistic.cross_entropy(scores, validation)
    fitted = zip(fits.weights, fits.bias, mean, scale, strict=True)
    yield from zip(fitted, accuracy, entropy, fits.certificate.max(1), strict=True)


def _all_labels(features, config) -> tuple[dict, np.ndarray, np.ndarray]:
  family = information.Family(np.asarray(features.labels_train), features.classes)
  layer, j, accuracy, held_out, fitted, told = _choose(features, config, family)
  fit = _of(fitted[layer], j)
  correct, nats, predictions = _test(features, layer, *fit)
  usable, bits = _usable(features, config, family, held_out, fitted)
  result = {
    'layer': layer,
    'l2': float(config.l2[j]),
    'accuracy': correct,
    'stderr': float(np.sqrt(correct * (1 - correct) / len(predictions))),
    'cross_entropy': float(nats.mean()),
    'by_layer_validation': accuracy.max(1).tolist(),
    **told,
    **usable,
  }
  return result, predictions, bits


def _of(fit: tuple, j: int) -> tuple:
  """Weights and bias of one l2, mean and scale."""
  weights, bias, mean, scale = fit
  return weights[j], bias[j], mean, scale


def _usable(features, config, family, held_out, fitted) -> tuple[dict, np.ndarray]:
  """Usable bits on test of the member with the lowest validation cross-entropy, and its terms.

  A choice of its own: the fit of the best accuracy may be sharper than its accuracy warrants.
  """
  blind = float(family.blind(features.labels_validation).mean())
  layer, j = _lowest(held_out)
  if held_out[layer, j] < blind:
    correct, nats, _ = _test(features, layer, *_of(fitted[layer], j))
    chosen = {'usable_layer': layer, 'usable_l2': float(config.l2[j]), 'usable_accuracy': correct}
    paid = family.nats(nats, features.labels_test)
  else:
    guess = np.bincount(features.labels_train).argmax()
    correct = float((features.labels_test == guess).mean())
    chosen = {'usable_layer': None, 'usable_l2': None, 'usable_accuracy': correct}
    paid = family.blind(features.labels_test)
  bits, stderr, terms = information.usable(paid, family.blind(features.labels_test))
  by_layer = (blind - np.minimum(held_out.min(1), blind)) / np.log(2)
  return {
    'usable_bits': bits,
    'usable_bits_stderr': stderr,
    **chosen,
    'usable_bits_by_layer_validation': by_layer.tolist(),
  }, terms.astype(np.float32)


def _without_choice(features, config, subsets):
  """Fits of the middle layer under `single_l2`, one a draw, in the form `_few_labels` takes."""
  layer = len(features.train) // 2
  rows = np.stack(subsets)  # (draws, n)
  if isinstance(features.train, Layers):
    drawn = _drawn(features.train, np.array([layer]), rows)[0]
  else:
    drawn = features.train[layer][rows]
  train, mean, scale = _standardised(drawn)
  labels = np.asarray(features.labels_train)[rows]
  names = [f'layer {layer}, {rows.shape[1]} labels, draw {d}' for d in range(len(rows))]
  how = {'classes': features.classes, 'names': names}
  fits = features.once(lambda: logistic.fit(train, labels, [config.single_l2], **how))
  fitted = list(zip(fits.weights[:, 0], fits.bias[:, 0], mean, scale, strict=True))
  chosen = [(layer, float(config.single_l2))] * len(rows)
  return chosen, fitted, None, float(fits.certificate.max())


def _cross_validated(features, config, subsets, fold):
  """Chooses layer and l2 inside each draw by its folds, and fits them on its whole subset.

  The fits on the whole subset are made for every layer and l2 together with those of the folds,
  as one more fold that holds nothing out: one solver call (or one a batch of layers) is cheaper
  than a second one with another shape.
  """
  rows = np.stack(subsets)
  draws, size = rows.shape
  labels = np.asarray(features.labels_train)[rows]  # (draws, n)
  # (draws, folds + 1, n): the rows that train; the last one holds nothing out.
  used = np.stack(fold)[:, None] != np.arange(config.folds + 1)[None, :, None]
  accuracy, entropy, fitted, certificate = [], [], [], 0.0
  for layers in _batches(features.train, draws * (config.folds + 1) * size):
    drawn = _drawn(features.train, layers, rows)
    right, nats, finals, largest = features.once(
      lambda layers=layers, drawn=drawn: _folds(layers, drawn, labels, used, features, config)
    )
    accuracy.append(right)
    entropy.append(nats)
    fitted += finals
    certificate = max(certificate, largest)
  accuracy, entropy = np.concatenate(accuracy), np.concatenate(entropy)  # (layers, draws, l2)
  chosen, finals = [], []
  for d in range(draws):
    layer, j = selection.choose(accuracy[:, d], entropy[:, d])
    w, b, mean, scale = (array[d] for array in fitted[layer])
    chosen.append((layer, float(config.few_l2[j])))
    finals.append((w[j], b[j], mean, scale))
  return chosen, finals, accuracy.max(2).mean(1).tolist(), float(certificate)


def _folds(layers, drawn, labels, used, features, config) -> tuple:
  """Fits of some layers inside the folds of every draw, and on whole subsets.

  Args:
      layers: their numbers.
      drawn: (layers, draws, n, D), the features of the subsets.
      labels: (draws, n).
      used: (draws, folds + 1, n), which of them a fold trains on.

  Returns:
      accuracy and nats (layers, draws, l2), cross-validated; weights, bias, mean and scale of the
      fits on whole subsets, by layer; the largest certificate.
  """
  shape, size = (len(layers), *used.shape), labels.shape[1]  # (layers, draws, folds + 1, n)
  train = np.broadcast_to(drawn[:, :, None], (*shape, drawn.shape[-1]))
  weights = np.broadcast_to(used, shape)
  train, mean, scale = _standardised(train, weights)
  truth = np.broadcast_to(labels[:, None], shape)
  fits = logistic.fit(
    train.reshape(-1, *train.shape[-2:]),
    truth.reshape(-1, size),
    config.few_l2,
    classes=features.classes,
    weights=weights.reshape(-1, size),
    names=_names(layers, f'{size} labels', *used.shape[:2]),
  )
  w = fits.weights.reshape(*shape[:3], *fits.weights.shape[1:])
  b = fits.bias.reshape(*shape[:3], *fits.bias.shape[1:])
  scores = logistic.logits(train[:, :, :-1, None], w[:, :, :-1], b[:, :, :-1])
  held_out = ~weights[:, :, :-1, None]  # Each row is held out of exactly one fold.
  truth = truth[:, :, :-1, None]
  right = ((scores.argmax(-1) == truth) & held_out).sum((2, 4)) / size
  nats = np.where(held_out, logistic.cross_entropy(scores, truth), 0).sum((2, 4)) / size
  finals = list(zip(w[:, :, -1], b[:, :, -1], mean[:, :, -1], scale[:, :, -1], strict=True))
  return right, nats, finals, fits.certificate.max()


def _drawn(array, layers: np.ndarray, rows: np.ndarray) -> np.ndarray:
  """(layers, draws, n, D) of rows (draws, n)."""
  if not isinstance(array, Layers):
    return array[layers][:, rows]
  return array[layers, rows.ravel()].reshape(len(layers), *rows.shape, -1)


def _few_labels(features, chosen, fitted, by_layer, certificate) -> tuple[dict, np.ndarray]:
  """Results and predictions (draws, N_test) of the chosen fits, the only ones to see the test."""
  tested = [_test(features, layer, *fit) for (layer, _), fit in zip(chosen, fitted, strict=True)]
  accuracies, entropies, predictions = zip(*tested, strict=True)
  draws = len(accuracies)
  result = {
    'layer': [layer for layer, _ in chosen],
    'l2': [l2 for _, l2 in chosen],
    'accuracy': float(np.mean(accuracies)),
    'stderr': float(np.std(accuracies, ddof=1) / np.sqrt(draws)) if draws > 1 else None,
    'draws': list(accuracies),
    'cross_entropy': float(np.mean([nats.mean() for nats in entropies])),
    'by_layer_cv': by_layer,
    'certificate': certificate,
  }
  return result, np.stack(predictions)


def _test(features, layer, weights, bias, mean, scale) -> tuple[float, np.ndarray, np.ndarray]:
  """Test accuracy, and cross-entropy (nats) and prediction of every example, of one fit."""
  if isinstance(features.test, Layers):
    return linear_mesh.judged(
      features.test, layer, features.labels_test, weights, bias, mean, scale
    )
  test = selection.standardise(features.test[layer], mean, scale)
  scores = logistic.logits(test, weights, bias)
  predictions = scores.argmax(-1).astype(np.int32)
  nats = logistic.cross_entropy(scores, features.labels_test)
  return float((predictions == features.labels_test).mean()), nats, predictions


def _standardised(features, weights=None):
  mean, scale = selection.moments(features, weights)
  return selection.standardise(features, mean, scale), mean, scale


def _batches(features: np.ndarray | Layers, rows: int) -> list[np.ndarray]:
  """Layers in batches of nearly equal size, whose features fit in memory."""
  layers, _, dims = features.shape
  count = min(layers, max(1, -(-8 * layers * rows * dims // BATCH_BYTES)))
  return np.array_split(np.arange(layers), count)


def _names(layers, setting: str, draws: int = 0, folds: int = 0) -> list[str]:
  if not draws:
    return [f'layer {layer}, {setting}' for layer in layers]
  held = [f'without fold {fold}' for fold in range(folds - 1)] + ['whole subset']
  return [
    f'layer {layer}, {setting}, draw {draw}, {part}'
    for layer in layers
    for draw in range(draws)
    for part in held
  ]
