"""Prequential code length of the labels given the features, in bits.

Labels of the train split are sent one after another, in a random order, to a receiver who has the
features. Both refit the same experts on all labels sent so far whenever their number has doubled
(10, 20, 40, ...), and a label costs -log2 of the probability that the experts of its block gave it.
No label is predicted by a fit that has seen it, and nothing is chosen for free: the experts are
every layer under every penalty, and a mixture under a switching prior over all of them carries its
weights through all blocks (`mixture`). It costs at most log2(experts) + log2(labels) bits more than
the best expert, and where another one is better later, little more than each while it is. The sum
of the bits is the length of a code that decodes (`tests/label_coder.py`); a representation from
which labels are easy to predict with few examples gives a short one (Blier and Ollivier, 2018;
Voita and Titov, 2020).

*   The first block is coded uniformly: log2 K bits a label.
*   Experts of the linear code: multinomial logistic regression at a certified optimum, for every
    layer and every l2, smoothed so that unseen classes keep mass (`mixture.smooth`); each of them
    once more at the temperature that would have coded the block before best (`calibration`), which
    at most doubles the number of experts, one bit for each change of the best one; and two that
    see no features, the Krichevsky-Trofimov estimator and smoothed frequencies: features that say
    nothing cost
    n H + (K-1)/2 log2 n + O(1) bits and the price of the mixture, and a label that never changes
    the first block and less than 40 bits.
*   Experts of the MLP code: these, and networks of one hidden layer (`hidden_layer.train`, from
    zero), for every layer, weight decay and checkpoint. The larger family contains the smaller, so
    its code is longer by log2 of the ratio of their sizes for each change of expert at most.
*   One order of the labels is one draw: the linear code is computed for several, all of the same
    labels, and its length is their mean, with the spread. Networks take longer; as many orders of
    them as asked for are coded, the first ones, and lengths are to be compared order by order.
*   Beside them stand the uniform code, n log2 K, and the adaptive code of a guess by class alone:
    the first block uniformly, then Krichevsky and Trofimov.
*   Features are standardised with the moments of all rows that are coded, including those whose
    labels are still to come: the receiver has the features, it is the labels that are sent.
"""

from collections.abc import Iterator
import math

import numpy as np

from probes import calibration, hidden_layer, logistic, mixture, selection

GAP = 1e-4  # Certificate of every linear fit, nats.
SMALLEST_FIT = 160  # Rows that a linear fit is padded to at least: few shapes, little compilation.
BATCH_BYTES = 256 * 2**20  # Features and probabilities of the layers fitted together.


def evaluate(features, config, seed: int) -> tuple[dict, dict]:
  """Code lengths of the train labels under the linear and the MLP experts.

  Args:
      features: probes.features.Features; only train is read.
      config: rows (labels coded, at most), first (labels of the uniform block), orders (of the
          labels, for the linear code), network_orders (the first so many of them, for the MLP
          code), l2 (grid), mlp (None for the linear code alone, or what `hidden_layer.train` takes:
          hidden, steps, batch_size, learning_rate, weight_decay, checkpoints).
      seed: of the order of the labels, and of the networks.

  Returns:
      results: 'all': labels (coded, n), prior, uniform_bits (n log2 K), majority_bits (of the
          classes alone, mean over orders), linear_bits and mlp_bits (mixtures over all layers;
          means over orders), linear_bits_orders and mlp_bits_orders (one length an order),
          linear_bits_spread and mlp_bits_spread (standard deviation over orders, None for one),
          linear_bits_by_layer and mlp_bits_by_layer (mixtures inside each layer, means over
          orders; the best of them is not paid for),
          linear_best_layer, certificate (the largest of all linear fits, nats) and curve, the
          loss-data curve: a dict a block with labels (seen before it; 0 for the uniform block),
          linear_bits and mlp_bits (mean bits a label and over orders). What belongs to the MLP code
          is None without it.
      arrays: float32 bits of every label in the first order, (n,), 'all/linear_bits' and
          'all/mlp_bits'; 'all/order' (n,) int32, their rows of the train split.

  Raises:
      ValueError: features that are not finite, shapes that do not match, fewer than 2 classes, a
          fit that cannot be certified, training that diverged.
  """
  selection.check(features, ('train',))
  order = coding_order(len(features.labels_train), config.rows, seed)
  labels = np.asarray(features.labels_train)[order]
  if config.orders < 1:
    raise ValueError(f'prequential.orders must be at least 1, not {config.orders}')
  found: dict[str, list[tuple]] = {'linear': [], 'mlp': []}
  certificate, majority = 0.0, []
  for number, again in enumerate(orders(len(labels), config.orders, seed)):
    experts = Experts(
      features.train[:, order[again]],
      features.classes,
      config,
      seed,
      networks=number < config.network_orders,
    )
    coded, largest = features.once(lambda e=experts, a=again: _coded(e, labels[a]))
    certificate = max(certificate, largest)
    majority.append(majority_bits(labels[again], features.classes, config.first))
    for name, one in coded.items():
      found[name].append(one)
  starts = blocks(len(labels), config.first)
  result = {'labels': len(labels), 'uniform_bits': len(labels) * math.log2(features.classes)}
  result |= {'majority_bits': float(np.mean(majority)), 'prior': mixture.PRIOR}
  arrays = {'all/order': order.astype(np.int32)}
  curve = [{'labels': start} for start, _ in starts]
  for name, several in found.items():
    lengths = [float(bits_N.sum()) for bits_N, _ in several]
    result[f'{name}_bits'] = float(np.mean(lengths)) if several else None
    result[f'{name}_bits_orders'] = lengths or None
    result[f'{name}_bits_spread'] = float(np.std(lengths, ddof=1)) if len(lengths) > 1 else None
    by_layer = np.mean([layers for _, layers in several], 0).tolist() if several else None
    result[f'{name}_bits_by_layer'] = by_layer
    if several:
      arrays[f'all/{name}_bits'] = several[0][0].astype(np.float32)
    for point, (start, stop) in zip(curve, starts, strict=True):
      means = [bits_N[start:stop].mean() for bits_N, _ in several]
      point[f'{name}_bits'] = float(np.mean(means)) if several else None
  result['linear_best_layer'] = int(np.argmin(result['linear_bits_by_layer']))
  return {'all': result | {'certificate': certificate, 'curve': curve}}, arrays


def _coded(experts: 'Experts', labels: np.ndarray) -> tuple[dict[str, tuple], float]:
  """For each code its bits (n,) a label and the lengths inside each layer; largest certificate."""
  nats, blind, certificate = _lengths(experts, labels)
  used = {'linear': nats[:, : experts.linear]} | ({'mlp': nats} if experts.networks else {})
  coded = {}
  for name, own in used.items():
    bits_N = mixture.code_lengths(np.concatenate([blind, own.reshape(-1, len(labels))]))
    inside = np.repeat(blind[None], len(own), 0)
    by_layer = mixture.code_lengths(np.concatenate([inside, own], 1)).sum(-1)
    coded[name] = bits_N, by_layer.tolist()
  return coded, certificate


def bits(
  features_LxNxD: np.ndarray, labels_N: np.ndarray, classes: int, config, seed: int
) -> dict[str, float]:
  """The codes of one order, as `evaluate`'s of the first, and nothing else.

  Features and labels are in coding order. Returns linear_bits and, where there are settings for
  it, mlp_bits.
  """
  coded, _ = _coded(Experts(features_LxNxD, classes, config, seed), labels_N)
  return {f'{name}_bits': float(bits_N.sum()) for name, (bits_N, _) in coded.items()}


def coding_order(count: int, most: int, seed: int) -> np.ndarray:
  """Rows of the train split in the order in which their labels are sent, at most `most`."""
  return np.random.default_rng((seed,)).permutation(count)[:most]


def orders(count: int, several: int, seed: int) -> list[np.ndarray]:
  """Orders (count,) of the labels of `coding_order`: as they stand there, then at random."""
  others = [np.random.default_rng((seed, k)).permutation(count) for k in range(1, several)]
  return [np.arange(count), *others]


def blocks(count: int, first: int) -> tuple[tuple[int, int], ...]:
  """Where blocks start and stop: they end at first, 2 first, 4 first, ... and count."""
  ends = [0]
  while ends[-1] < count:
    ends.append(min(count, max(first, 2 * ends[-1])))
  return tuple(zip(ends[:-1], ends[1:], strict=True))


class Predictor:
  """Predicts labels one by one, each from those before it and all features, as a decoder needs.

  For every block, in order: `begin_block` with all labels before it, and then for each of its
  examples `probabilities` and, once the label is known, `observe`. Two predictors of the same
  arguments that are told the same labels give the same probabilities to the last bit on the same
  machine (the fits are deterministic for the same number of threads). The code length is that of
  `evaluate`.
  """

  def __init__(
    self, features_LxNxD: np.ndarray, classes: int, config, seed: int = 0, networks: bool = False
  ):
    """Takes features in coding order and `evaluate`'s config; networks: the MLP code."""
    self._experts = Experts(features_LxNxD, classes, config, seed, networks)
    self.blocks = self._experts.blocks
    self.classes = classes
    self._counts = np.zeros(classes, np.int64)  # Of the labels observed.

  def begin_block(self, labels: np.ndarray) -> None:
    """Fits the experts of the block that begins after `labels`; no labels: starts afresh.

    Raises:
        ValueError: no block begins there, or labels are not those observed.
    """
    labels = np.asarray(labels, np.int64)
    stop = dict(self.blocks).get(len(labels))
    if stop is None:
      raise ValueError(f'no block begins after {len(labels)} labels')
    self._start = len(labels)
    if not len(labels):
      self._mixture = mixture.Mixture(BLIND + len(self._experts), self.blocks[0][1])
      self._counts[:] = 0
      return
    if (np.bincount(labels, minlength=self.classes) != self._counts).any():
      raise ValueError('the labels before a block are not those that were observed')
    parts = [p for _, p, _ in self._experts.fit(labels, stop)]
    # (experts, block, K), in the order of layers, the featureless expert aside.
    self._fitted = np.concatenate([p.reshape(-1, *p.shape[2:]) for p in parts])

  def probabilities(self, index: int) -> np.ndarray:
    """The mixture's probabilities (K,), float64, of the label of an example of this block."""
    if not self._start:
      return np.full(self.classes, 1 / self.classes)
    return self._mixture.probabilities(self._at(index))

  def observe(self, index: int, label: int) -> None:
    """Takes in the label of an example of this block."""
    if self._start:
      self._mixture.observe(self._at(index)[:, label])
    self._counts[label] += 1

  def _at(self, index: int) -> np.ndarray:
    return np.concatenate([blind(self._counts), self._fitted[:, index - self._start]])


class Experts:
  """The experts with features, to be fitted to more and more of the labels."""

  def __init__(
    self, features_LxNxD: np.ndarray, classes: int, config, seed: int, networks: bool = True
  ):
    if classes < 2:
      raise ValueError(f'a probe needs at least 2 classes, not {classes}')
    self.classes = classes
    self.blocks = blocks(features_LxNxD.shape[1], config.first)
    # Of each fit there are two, one of them calibrated.
    self.linear = 2 * len(config.l2)
    self._powers = calibration.Powers()
    self._features, self._l2, self._seed = features_LxNxD, config.l2, seed
    self._mlp = config.mlp if networks and config.mlp else None
    # Experts of a layer: every l2, then every checkpoint and weight decay, plain and calibrated.
    self.networks = 2 * len(self._mlp.weight_decay) * self._mlp.checkpoints if self._mlp else 0

  def __len__(self) -> int:
    return len(self._features) * (self.linear + self.networks)

  def fit(self, labels: np.ndarray, stop: int) -> Iterator[tuple[np.ndarray, np.ndarray, float]]:
    """Fits to the first labels and predicts the examples after them, up to `stop`.

    Blocks follow each other: the temperatures of one are from the block before.

    Yields:
        layers, probabilities (layers, experts of a layer, stop - len(labels), K), and the largest
        certificate of their linear fits.
    """
    counts = np.bincount(labels, minlength=self.classes)
    self._powers.begin(labels)
    for layers in self._batches():
      x = self._features[layers]
      x = selection.standardise(x, *selection.moments(x))
      logits, certificate = self._fit_linear(layers, x, labels, stop)
      p = self._powers.both(logits, 1)
      if self._mlp:
        logits = np.concatenate(self._fit_networks(x, labels, stop), 1)
        p = np.concatenate([p, self._powers.both(logits, 1)], 1)
      yield layers, mixture.smooth(p, counts), certificate

  def _fit_linear(self, layers, x, labels, stop) -> tuple[np.ndarray, float]:
    """Logits (layers, l2, stop - start, K) and the largest certificate."""
    start = len(labels)
    # Rows after `start` are padding: of weight zero, with no label.
    size = self.blocks[-1][0]
    while size // 4 >= max(start, SMALLEST_FIT):
      size //= 4
    fits = logistic.fit(
      x[:, :size],
      np.pad(labels, (0, size - start)),
      self._l2,
      classes=self.classes,
      weights=np.broadcast_to(np.arange(size) < start, (len(x), size)),
      gap=GAP,
      names=[f'layer {layer}, {start} labels' for layer in layers],
    )
    logits = logistic.logits(x[:, None, start:stop], fits.weights, fits.bias)
    return logits, float(fits.certificate.max())

  def _fit_networks(self, x, labels, stop) -> list[np.ndarray]:
    """Logits (layers, weight decays, stop - start, K), one array a checkpoint."""
    start = len(labels)
    trained = hidden_layer.train(
      x,
      np.pad(labels, (0, x.shape[1] - start)),
      classes=self.classes,
      seed=self._seed,
      rows=np.arange(start),
      **self._mlp,
    )
    return [hidden_layer.logits(params, x[:, start:stop]) for step, params in trained if step]

  def _batches(self) -> list[np.ndarray]:
    """Layers in batches of nearly equal size that fit in memory."""
    layers, rows, dims = self._features.shape
    experts = self.linear + self.networks
    size = 8 * rows * (2 * dims + self.classes * experts)
    return np.array_split(np.arange(layers), min(layers, -(-layers * size // BATCH_BYTES)))


def _lengths(experts: Experts, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
  """Nats a label of the experts (layers, experts of a layer, n) and of the blind ones (2, n).

  Also the largest certificate. In the uniform block every expert is uniform, so that a mixture of
  them is uniform too and learns nothing there.
  """
  each = experts.linear + experts.networks
  uniform = math.log(experts.classes)
  nats = np.full((len(experts) // each, each, len(labels)), uniform)
  largest = 0.0
  for start, stop in experts.blocks[1:]:
    rows = np.arange(stop - start)
    for layers, p, certificate in experts.fit(labels[:start], stop):
      nats[layers, :, start:stop] = -np.log(p[:, :, rows, labels[start:stop]])
      largest = max(largest, certificate)
  return nats, featureless(labels, experts.classes, experts.blocks[0][1]), largest


# Experts that see no features.
BLIND = 2


def blind(counts: np.ndarray) -> np.ndarray:
  """What they expect (2, ..., K) after counts (..., K) of the labels so far."""
  return np.stack([mixture.krichevsky_trofimov(counts), mixture.frequencies(counts)])


def featureless(labels: np.ndarray, classes: int, first: int) -> np.ndarray:
  """Nats (2, n) a label of the predictors that see no features, uniform in the first block."""
  # Counts (n, K) of the labels before each.
  seen = np.cumsum(labels[:, None] == np.arange(classes), 0)
  nats = np.full((BLIND, len(labels)), math.log(classes))
  p = blind(seen[first - 1 : -1])
  nats[:, first:] = -np.log(p[:, np.arange(p.shape[1]), labels[first:]])
  return nats


def majority_bits(labels: np.ndarray, classes: int, first: int) -> float:
  """Of labels by their classes alone: the first block uniformly, then Krichevsky and Trofimov."""
  return float(featureless(labels, classes, first)[0].sum()) / math.log(2)
