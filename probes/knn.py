"""Nearest neighbours: a probe that fits nothing.

An example is classified by the votes of its k nearest training examples under cosine similarity,
each with weight exp(similarity / temperature) (Wu et al., 2018; DINO, Caron et al., 2021, with
temperature 0.07). Fitting nothing, it reads the geometry as it is: classes have to be near each
other, where a linear probe only asks that they can be separated.

Features are centred by the mean of the bank and then L2-normalised. DINO normalises raw features,
but the mean-pooled features of a Transformer share one large common direction, which sends every
cosine close to 1 and hides the rest (Ethayarajh, 2019; Mu and Viswanath, 2018). Centring removes
it, and leaves angles unchanged by any rotation of the features. Dividing by each feature's
deviation would not: it depends on the basis, and blows up features that hardly vary.

Nothing depends on the order of the examples. Examples that tie at the k-th similarity share the
remaining places equally, and where several classes tie for the most votes, the truth among them
counts as 1 / (number of tied classes): the expected accuracy of breaking the tie by lot.
"""

from collections.abc import Sequence

import numpy as np

from probes import knn_mesh, selection, sums
from probes.layers import Layers, one_layer

CHUNK_BYTES = 64 * 2**20  # Similarities held at once.
# Shorter than this share of its uncentred self, a centred row is rounding and has no direction.
NO_DIRECTION = 1e-12
# Votes that are equal on paper differ by the similarities' rounding / temperature, some 1e-12 of
# their size; votes that differ on paper are rarely so close.
VOTE_TIE = 1e-9


def evaluate(features, config, seed: int) -> tuple[dict, dict]:
  """Nearest neighbours with all training labels and with each number of labels.

  Args:
      features: probes.features.Features.
      config: neighbours (values of k; one above the size of the bank means the whole bank),
          temperature, labels (numbers of labels), draws.
      seed: of the deals of label subsets; draw d has the labels of the linear probe's draw d where
          both have as many draws.

  Returns:
      results: 'all': layer, neighbours, accuracy (test, credit of a tied vote split), stderr
          (binomial, over test examples), by_layer_validation (each layer's best accuracy over k).
          Layer and k have the best validation accuracy, ties go to the lower squared error of the
          votes.
          n: layer, neighbours and draws (test accuracy), one entry a draw; accuracy, the mean
          over draws; stderr, the standard deviation over draws / sqrt(draws), None for one draw;
          by_layer_cv, each layer's best leave-one-out accuracy over k, mean over draws. The bank,
          its mean and the choice use the n examples alone. With fewer than two examples a class
          leaving one out says nothing: the middle layer and the smallest k, and by_layer_cv None.
          left_out: number of labels -> why it has no result, where it is below the number of
          classes or the training split has no balanced subset so large; absent if all have.
      arrays: 'all/predictions' (N_test,), 'n/predictions' (draws, N_test), int32, of tied classes
          the lowest; 'all/credit' and 'n/credit' of the same shapes, float32, whose mean is the
          accuracy (a prediction of a tied vote may be right where the credit is a half).

  Raises:
      ValueError: features that are not finite, shapes that do not match, a class without training
          examples, a k or temperature that is not positive.
  """
  selection.check(features, ('train', 'validation', 'test'))
  sizes, left_out = selection.fitting(features.labels_train, config.labels, features.classes)
  results, arrays = {'left_out': left_out} if left_out else {}, {}
  results['all'], arrays['all/predictions'], arrays['all/credit'] = _all_labels(features, config)
  for size in sizes:
    cell, predictions, credits = _few_labels(features, config, size, seed)
    results[str(size)] = cell
    arrays[f'{size}/predictions'], arrays[f'{size}/credit'] = predictions, credits
  return results, arrays


def votes(
  queries_QxD: np.ndarray,
  bank_NxD: np.ndarray,
  labels_N: np.ndarray,
  classes: int,
  k: int,
  temperature: float,
  exclude_self: bool = False,
) -> np.ndarray:
  """Share of the vote of each class, (Q, K) float64; rows sum to 1. Features are not centred here.

  Args:
      queries_QxD, bank_NxD: finite. The cosine of a zero vector with anything is 0.
      labels_N: of the bank, integers in [0, classes).
      classes: K.
      k: neighbours; above the size of the bank it means the whole bank.
      temperature: a neighbour's vote weighs exp(similarity / temperature).
      exclude_self: the queries are the bank, and query i does not see row i. Other rows equal to
          it stay.

  Raises:
      ValueError: bad shapes or labels, NaN or infinity, an empty bank, a k or temperature that is
          not positive.
  """
  ks = (k,)
  return votes_by_k(queries_QxD, bank_NxD, labels_N, classes, ks, temperature, exclude_self)[0]


def votes_by_k(
  queries_QxD, bank_NxD, labels_N, classes, ks: Sequence[int], temperature, exclude_self=False
) -> np.ndarray:
  """As `votes` for several k at once, which costs one partition: (J, Q, K)."""
  queries, bank, labels = np.asarray(queries_QxD), np.asarray(bank_NxD), np.asarray(labels_N)
  ks = np.asarray(ks)
  _check(queries, bank, labels, classes, ks, temperature, exclude_self)
  queries, bank = _unit(queries), _unit(bank)
  ks = np.minimum(ks, len(bank) - bool(exclude_self))
  # The largest difference that rounding makes between two equal cosines: 2 (D + 2) units in the
  # last place of 1, from dot products and norms of D terms.
  tie = 2 * (bank.shape[1] + 2) * np.finfo(np.float64).eps
  shares = np.empty((len(ks), len(queries), classes))
  step = max(1, CHUNK_BYTES // (8 * len(bank)))
  for start in range(0, len(queries), step):
    chunk = slice(start, start + step)
    similarity = queries[chunk] @ bank.T
    if exclude_self:
      rows = np.arange(len(similarity))
      similarity[rows, start + rows] = -np.inf
    shares[:, chunk] = _nearest(similarity, labels, classes, ks, temperature, tie)
  return shares


def credit(votes_QxK: np.ndarray, truth_Q: np.ndarray) -> np.ndarray:
  """1 / (classes that share the most votes) where the truth is among them, else 0: (..., Q)."""
  tied = _tied(votes_QxK)
  truth = np.broadcast_to(truth_Q, tied.shape[:-1])
  return np.take_along_axis(tied, truth[..., None], -1)[..., 0] / tied.sum(-1)


def predictions(votes_QxK: np.ndarray) -> np.ndarray:
  """The class with the most votes, int32; of tied classes the lowest."""
  return _tied(votes_QxK).argmax(-1).astype(np.int32)


def _tied(votes_QxK: np.ndarray) -> np.ndarray:
  return votes_QxK >= votes_QxK.max(-1, keepdims=True) * (1 - VOTE_TIE)


def _nearest(similarity_QxN, labels_N, classes, ks, temperature, tie) -> np.ndarray:
  """Shares of the vote (J, Q, K) of one chunk of queries."""
  size = similarity_QxN.shape[1]
  # One more than the largest k shows whether the tie at the k-th goes beyond what was kept.
  kept = min(ks.max() + 1, size)
  index = np.argpartition(similarity_QxN, size - kept, axis=1)[:, size - kept :]
  near = np.take_along_axis(similarity_QxN, index, 1)
  order = np.sort(near, 1)[:, ::-1]
  labels = labels_N[index]
  shares = []
  for k in ks:
    kth = order[:, k - 1]
    share = _count(near, labels, classes, k, kth, temperature, tie)
    beyond = (order[:, -1] >= kth - tie) & (kept < size)
    if beyond.any():
      everyone = similarity_QxN[beyond]
      everyones = np.broadcast_to(labels_N, everyone.shape)
      share[beyond] = _count(everyone, everyones, classes, k, kth[beyond], temperature, tie)
    shares.append(share)
  return np.stack(shares)


def _count(similarity_QxM, labels_QxM, classes, k, kth_Q, temperature, tie) -> np.ndarray:
  """Shares of the vote (Q, K) among candidates that hold all ties with the k-th similarity."""
  above = similarity_QxM > kth_Q[:, None] + tie
  tied = np.abs(similarity_QxM - kth_Q[:, None]) <= tie
  place = above + tied * ((k - above.sum(1)) / tied.sum(1))[:, None]
  # Shares do not change by a factor, and against the largest nothing overflows.
  weight = place * np.exp((similarity_QxM - similarity_QxM.max(1, keepdims=True)) / temperature)
  rows = len(similarity_QxM)
  cell = np.arange(rows)[:, None] * classes + labels_QxM
  total = np.bincount(cell.ravel(), weight.ravel(), rows * classes).reshape(rows, classes)
  return total / total.sum(1, keepdims=True)


def _votes_on_mesh(features, split: str, layer: int, config) -> np.ndarray:
  """As `votes_by_k` (J, Q, K), of a split of `Layers` in the bank of all training rows."""
  bank, queries = features.train.on_mesh(layer), getattr(features, split).on_mesh(layer)
  moments = sums.moments(bank)
  bank, queries = (knn_mesh.directions(r, *moments, NO_DIRECTION) for r in (bank, queries))
  ks = np.minimum(config.neighbours, bank.count)
  tie = 2 * (bank.x.shape[1] + 2) * float(np.finfo(np.float32).eps)
  shares = np.empty((len(ks), queries.count, features.classes))
  found = knn_mesh.nearest(queries, bank, features.labels_train, int(ks.max()), tie)
  for chunk, similarity, labels in found:
    order = np.sort(similarity, 1)[:, ::-1]
    for j, k in enumerate(ks):
      shares[j, chunk] = _count(
        similarity, labels, features.classes, k, order[:, k - 1], config.temperature, tie
      )
  return shares


def _all_labels(features, config) -> tuple[dict, np.ndarray, np.ndarray]:
  labels = np.asarray(features.labels_train)
  accuracy, error = [], []
  for layer in range(len(features.train)):
    if isinstance(features.train, Layers):
      shares = _votes_on_mesh(features, 'validation', layer, config)
    else:
      bank, queries = _centred(features.train[layer], features.validation[layer])
      shares = votes_by_k(
        queries, bank, labels, features.classes, config.neighbours, config.temperature
      )
    accuracy.append(credit(shares, features.labels_validation).mean(-1))
    error.append(_squared_error(shares, features.labels_validation))
  accuracy = np.stack(accuracy)
  layer, j = selection.choose(accuracy, np.stack(error))
  k = config.neighbours[j]
  if isinstance(features.train, Layers):
    shares = _votes_on_mesh(features, 'test', layer, config)[j]
    predicted, credits = predictions(shares), credit(shares, features.labels_test)
  else:
    predicted, credits = _test(features, config, layer, k, np.arange(len(labels)))
  correct = float(credits.mean())
  result = {
    'layer': layer,
    'neighbours': int(k),
    'accuracy': correct,
    'stderr': float(np.sqrt(correct * (1 - correct) / len(credits))),
    'by_layer_validation': accuracy.max(1).tolist(),
  }
  return result, predicted, credits.astype(np.float32)


def _few_labels(features, config, size, seed) -> tuple[dict, np.ndarray, np.ndarray]:
  choices, left_out, tested = [], [], []
  labels, classes = features.labels_train, features.classes
  for number in selection.subset_numbers(features, config.draws):
    rows = selection.disjoint_subset(labels, size, classes, seed, number)
    if size < 2 * features.classes:
      layer, k = len(features.train) // 2, min(config.neighbours)
    else:
      layer, k, by_layer = _leave_one_out(features, config, rows)
      left_out.append(by_layer)
    choices.append((layer, int(k)))
    tested.append(_test(features, config, layer, k, rows))
  predicted, credits = (np.stack(part) for part in zip(*tested, strict=True))
  accuracies = credits.mean(1)
  spread = float(accuracies.std(ddof=1) / np.sqrt(len(tested))) if len(tested) > 1 else None
  result = {
    'layer': [layer for layer, _ in choices],
    'neighbours': [k for _, k in choices],
    'accuracy': float(accuracies.mean()),
    'stderr': spread,
    'draws': accuracies.tolist(),
    'by_layer_cv': np.mean(left_out, 0).tolist() if left_out else None,
  }
  return result, predicted, credits.astype(np.float32)


def _leave_one_out(features, config, rows) -> tuple[int, int, np.ndarray]:
  """Layer and k chosen inside a subset, and each layer's best accuracy over k."""
  labels = np.asarray(features.labels_train)[rows]
  accuracy, error = [], []
  for layer in range(len(features.train)):
    bank, _ = _centred(one_layer(features.train, layer, rows))
    shares = votes_by_k(
      bank, bank, labels, features.classes, config.neighbours, config.temperature, True
    )
    accuracy.append(credit(shares, labels).mean(-1))
    error.append(_squared_error(shares, labels))
  accuracy = np.stack(accuracy)
  layer, j = selection.choose(accuracy, np.stack(error))
  return layer, config.neighbours[j], accuracy.max(1)


def _test(features, config, layer, k, rows) -> tuple[np.ndarray, np.ndarray]:
  """Predictions and credit (N_test,) with the given training rows as the bank."""
  bank, queries = _centred(one_layer(features.train, layer, rows), features.test[layer])
  labels = np.asarray(features.labels_train)[rows]
  shares = votes(queries, bank, labels, features.classes, k, config.temperature)
  return predictions(shares), credit(shares, features.labels_test)


def _squared_error(shares_JxQxK: np.ndarray, labels_Q: np.ndarray) -> np.ndarray:
  return ((shares_JxQxK - np.eye(shares_JxQxK.shape[-1])[labels_Q]) ** 2).sum(-1).mean(-1)


def _centred(bank_NxD, queries_QxD=None) -> tuple[np.ndarray, np.ndarray | None]:
  """Both minus the bank's mean; zero for features constant over the bank and for pure rounding."""
  mean, scale = selection.moments(bank_NxD)

  def centre(x):
    moved = np.where(np.isinf(scale), 0, np.asarray(x, np.float64) - mean)
    before = np.linalg.norm(x, axis=1, keepdims=True) + np.linalg.norm(mean)
    short = np.linalg.norm(moved, axis=1, keepdims=True) <= NO_DIRECTION * before
    return np.where(short, 0, moved)

  return centre(bank_NxD), None if queries_QxD is None else centre(queries_QxD)


def _unit(x: np.ndarray) -> np.ndarray:
  x = np.asarray(x, np.float64)
  norm = np.linalg.norm(x, axis=-1, keepdims=True)
  return x / np.where(norm > 0, norm, 1)


def _check(queries, bank, labels, classes, ks, temperature, exclude_self) -> None:
  if queries.ndim != 2 or bank.ndim != 2 or queries.shape[1] != bank.shape[1]:
    raise ValueError(f'queries {queries.shape} and bank {bank.shape} do not match')
  if not (np.isfinite(queries).all() and np.isfinite(bank).all()):
    raise ValueError('features hold NaN or infinity')
  if exclude_self and len(queries) != len(bank):
    raise ValueError(f'{len(queries)} queries are not the bank of {len(bank)} rows')
  if len(bank) <= bool(exclude_self):
    raise ValueError('the bank has no neighbour to offer')
  if classes < 2:
    raise ValueError(f'a probe needs at least 2 classes, not {classes}')
  if labels.shape != (len(bank),) or labels.min() < 0 or labels.max() >= classes:
    raise ValueError(f'labels must be {len(bank)} integers from 0 to {classes - 1}')
  if ks.ndim != 1 or not len(ks) or ks.min() < 1 or not temperature > 0:
    raise ValueError('neighbours and temperature must be positive')
