r"""A bound on the bits of a whole network, from the bytes that its quantised weights take.

The networks that a file of weights can be are countable, and sum 2^-length <= 1 over all files of a
prefix code. So, as in `probes.pac`, for examples drawn independently, n of them, of which each
costs a network a loss in [0, 1] of mean \hat l on them and l on fresh ones,

    kl(\hat l || l) <= (length ln 2 + ln(choices) + ln(1 / delta)) / n

holds for all networks at once with probability 1 - delta (Hoeffding 1963, theorem 1, for each; the
union over all, Occam's razor). Nothing is asked of the class but that it is written in bits. The
loss is the mean bits of a token of the probabilities (1 - a) p + a / V, which are at most
log2(V / a) and at least -log2(1 - a + a / V), so that it can be scaled to [0, 1] (Lotfi and others,
2024, for language models). The examples are those that training saw, drawn afresh for ever.
"""

from collections.abc import Sequence
import math
from typing import Any

import numpy as np

from codes import own_size
from data import synthetic
from probes import pac
from runs import growing, tokens
from runs.assembled import Experiment

DELTA = 0.05
ALPHAS = (0.05, 0.1, 0.2, 0.3)
# The length of a file is sent before it.
_LENGTH_BITS = 32


def bound(
  built: Experiment, params: Any, formats: Sequence[str], alphas: Sequence[float] = ALPHAS
) -> dict[str, Any]:
  """The lowest bound over formats of weights and a, which are paid for.

  Args:
    built: an autoregressive run on a hierarchy that is drawn afresh.
    params: its parameters.
    formats: as `codes.own_size.sent` names them.
    alphas: a.

  Returns:
    bound, train and test (bits a token of the chosen network), uniform (log2 V), examples, weight
    bits, parameters, format and alpha.

  Raises:
    UserError: another source than a hierarchy that is drawn afresh, each string independently.
  """
  dataset = built.dataset
  rows = synthetic.with_end_token(growing.streamed(built))
  nats = tokens.make_nats(built)
  choices, best = len(formats) * len(alphas), None
  for name in formats:
    received, size = own_size.sent(params, name)
    p = {
      split: np.exp(-nats(received, examples)[:, : dataset.dims])
      for split, examples in (('train', rows), ('test', dataset.test.tokens_NxT))
    }
    for alpha in alphas:
      made = _bound(p['train'], alpha, dataset.vocabulary, size, choices)
      if best is None or made['bound'] < best['bound']:
        test = float(_bits(p['test'], alpha, dataset.vocabulary).mean())
        best = made | {'test': test, 'format': name, 'alpha': alpha, 'weight_bits': size}
  count = sum(np.size(leaf) for leaf in _leaves(params))
  return best | {
    'uniform': math.log2(dataset.vocabulary), 'examples': len(rows), 'parameters': count
  }  # fmt: skip


def _leaves(params: Any) -> list[Any]:
  import jax

  return jax.tree.leaves(params)


def _bits(p_NxT: np.ndarray, alpha: float, symbols: int) -> np.ndarray:
  """Bits of tokens whose probability was p, mixed with the uniform."""
  return -np.log2((1 - alpha) * p_NxT + alpha / symbols)


def _bound(
  p_NxT: np.ndarray, alpha: float, symbols: int, size: int, choices: int
) -> dict[str, float]:
  """Bound and mean bits a token, from what each token had of probability in training."""
  least, most = (float(_bits(np.float64(p), alpha, symbols)) for p in (1.0, 0.0))
  train_N = _bits(p_NxT, alpha, symbols).mean(1)
  nats = (size + _LENGTH_BITS) * math.log(2) + math.log(choices) - math.log(DELTA)
  share = pac.invert_kl((float(train_N.mean()) - least) / (most - least), nats / len(train_N))
  return {'bound': least + (most - least) * share, 'train': float(train_N.mean())}
