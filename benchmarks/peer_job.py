"""The job of benchmarks.end_to_end the way a careful user writes it: PyTorch and scikit-learn.

Nothing of ours is imported but the network of benchmarks/torch_train.py, told to look both ways
where an objective does. One process a training, one thread each.
"""

from collections.abc import Sequence
import json
import multiprocessing
import os
from typing import Any

from absl import app, flags
import numpy as np

_LEVELS, _LENGTH, _CLASSES, _BATCH, _EVERY, _DRAWS = 17, 64, 10, 32, 100, 64
_L2 = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_FEW_L2 = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)


def train(task: tuple[str, int, str, int]) -> tuple[str, dict[str, Any]]:
  """One network: trained, scored, probed."""
  import torch

  torch.set_num_threads(1)
  objective, seed, path, steps = task
  torch.manual_seed(seed)
  with np.load(path) as arrays:
    data = dict(arrays)
  from benchmarks.sizes import Size
  from benchmarks.torch_train import Network

  network = Network(Size('nano', _LEVELS, _LENGTH, 64, 4, 4, _BATCH))
  causal = objective == 'autoregressive'
  tokens = {s: torch.from_numpy(data[f'{s}_x']).long() for s in ('train', 'validation', 'test')}
  result: dict[str, Any] = {'bits': None}
  if objective != 'untrained':
    _fit(network, objective, tokens, steps, seed)
  if objective in ('autoregressive', 'masked_diffusion'):
    draws = 1 if causal else _DRAWS
    with torch.no_grad():
      nats = torch.stack([_nats(network, objective, tokens['test']) for _ in range(draws)])
    result['bits'] = float(nats.mean()) / (_LENGTH * np.log(2))
  with torch.no_grad():
    features = {s: _features(network, x, causal) for s, x in tokens.items()}
  labels = {s: data[f'{s}_y'] for s in tokens}
  result |= _probes(features, labels, seed)
  return f'{objective}-{seed}', result


def _forward(network: Any, tokens: Any, causal: bool, keep: list | None = None) -> Any:
  """Logits BxTxV; each block's normalised input and the final norm's output go to `keep`."""
  import torch
  from torch.nn import functional as F

  h = network.token_table(tokens)
  if causal:
    h = torch.cat([network.start.expand(len(tokens), 1, -1), h[:, :-1]], dim=1)
  h = h + network.position_table
  for block in network.blocks:
    normed = block.norm_attention(h)
    if keep is not None:
      keep.append(normed.mean(1))
    batch, length, width = h.shape
    qkv = block.qkv(normed).view(batch, length, 3, block.heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    h = h + block.out(mixed.transpose(1, 2).reshape(batch, length, width))
    hidden = block.mlp_in(block.norm_mlp(h))
    h = h + block.mlp_out(hidden * torch.sigmoid(1.702 * hidden))
  final = network.norm_final(h)
  if keep is not None:
    keep.append(final.mean(1))
  return network.output(final)


def _nats(network: Any, objective: str, tokens: Any) -> Any:
  """Nats per example; of BERT the mean over the chosen tokens."""
  import torch
  from torch.nn import functional as F

  def cross_entropy(logits: Any) -> Any:
    return F.cross_entropy(logits.flatten(0, 1), tokens.flatten(), reduction='none').view(
      tokens.shape
    )

  if objective == 'autoregressive':
    return cross_entropy(_forward(network, tokens, True)).sum(1)
  rank = torch.rand(tokens.shape).argsort(1).argsort(1)
  if objective == 'masked':
    chosen = rank < round(0.15 * _LENGTH)
    roll, noise = torch.rand(tokens.shape), torch.randint(_LEVELS, tokens.shape)
    seen = torch.where(chosen & (roll < 0.8), _LEVELS, tokens)
    seen = torch.where(chosen & (roll >= 0.8) & (roll < 0.9), noise, seen)
    return (cross_entropy(_forward(network, seen, False)) * chosen).sum(1) / chosen.sum(1)
  offsets = (torch.randperm(len(tokens)) + torch.rand(len(tokens))) / len(tokens)
  count = 1 + (offsets * _LENGTH).long().clamp(max=_LENGTH - 1)
  hidden = rank < count[:, None]
  seen = torch.where(hidden, _LEVELS, tokens)
  nats = (cross_entropy(_forward(network, seen, False)) * hidden).sum(1)
  return nats * _LENGTH / count


def _fit(network: Any, objective: str, tokens: dict[str, Any], steps: int, seed: int) -> None:
  """AdamW with a warm-up and a cosine, and the validation loss along the way."""
  import torch
  from torch import nn

  decayed = [p for m in network.modules() if isinstance(m, nn.Linear) for p in m.parameters()]
  kept = {id(p) for p in decayed}
  rest = [p for p in network.parameters() if id(p) not in kept]
  optimizer = torch.optim.AdamW(
    [{'params': decayed}, {'params': rest, 'weight_decay': 0.0}],
    lr=2e-3, betas=(0.9, 0.95), weight_decay=0.01, fused=True,
  )  # fmt: skip
  schedule = torch.optim.lr_scheduler.LambdaLR(
    optimizer,
    lambda step: min(step / 50, 0.5 * (1 + np.cos(np.pi * max(0, step - 50) / max(1, steps - 50)))),
  )
  scale = 1 if objective == 'masked' else _LENGTH
  order, rng = np.zeros(0, np.int64), np.random.default_rng(seed)
  for step in range(steps):
    if step % _EVERY == 0:
      with torch.no_grad():
        for _ in range(1 if objective == 'autoregressive' else 8):
          float(_nats(network, objective, tokens['validation']).mean())
    if len(order) < _BATCH:
      order = np.concatenate([order, rng.permutation(len(tokens['train']))])
    rows, order = order[:_BATCH], order[_BATCH:]
    loss = _nats(network, objective, tokens['train'][rows]).mean() / scale
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    schedule.step()


def _features(network: Any, tokens: Any, causal: bool) -> np.ndarray:
  """Means over the sequence of every layer, (layers, N, D)."""
  import torch

  parts = []
  for some in tokens.split(100):
    keep: list[Any] = []
    _forward(network, some, causal, keep)
    parts.append(torch.stack(keep))
  return torch.cat(parts, dim=1).numpy().astype(np.float64)


def _logistic(x: np.ndarray, y: np.ndarray, l2: float) -> Any:
  from sklearn.linear_model import LogisticRegression
  from sklearn.pipeline import make_pipeline
  from sklearn.preprocessing import StandardScaler

  return make_pipeline(
    StandardScaler(), LogisticRegression(C=1 / (len(y) * l2), max_iter=10_000)
  ).fit(x, y)


def _probes(x: dict[str, np.ndarray], y: dict[str, np.ndarray], seed: int) -> dict[str, float]:
  """Linear with all and with few labels, ridge, kNN: test accuracies of what validation chose."""
  from sklearn.linear_model import RidgeClassifier
  from sklearn.model_selection import StratifiedKFold, train_test_split
  from sklearn.neighbors import KNeighborsClassifier
  from sklearn.preprocessing import StandardScaler

  layers = range(len(x['train']))

  def best(candidates: list) -> float:
    return max(candidates, key=lambda one: one[0])[1]()

  def judged(model: Any, layer: int) -> tuple[float, Any]:
    return (
      model.score(x['validation'][layer], y['validation']),
      lambda: model.score(x['test'][layer], y['test']),
    )

  found = {
    'linear_all': best(
      [judged(_logistic(x['train'][k], y['train'], l2), k) for k in layers for l2 in _L2]
    )
  }
  for size in (10, 40, 100, 250):
    accuracies = []
    for draw in range(3):
      rows, _ = train_test_split(
        np.arange(len(y['train'])),
        train_size=size,
        stratify=y['train'],
        random_state=3 * seed + draw,
      )
      labels = y['train'][rows]
      if size == 10:
        layer, l2 = len(layers) // 2, 1e-2
      else:
        scores = {}
        folds = list(StratifiedKFold(3, shuffle=True, random_state=draw).split(rows, labels))
        for layer in layers:
          for l2 in _FEW_L2:
            scores[layer, l2] = np.mean([
              _logistic(x['train'][layer][rows[a]], labels[a], l2).score(
                x['train'][layer][rows[b]], labels[b]
              )
              for a, b in folds
            ])  # fmt: skip
        layer, l2 = max(scores, key=scores.get)
      model = _logistic(x['train'][layer][rows], labels, l2)
      accuracies.append(model.score(x['test'][layer], y['test']))
    found[f'linear_{size}'] = float(np.mean(accuracies))
  ridge, knn = [], []
  for layer in layers:
    scaler = StandardScaler().fit(x['train'][layer])
    scaled = {s: scaler.transform(x[s][layer]) for s in x}
    for l2 in (*_L2, 10.0):
      model = RidgeClassifier(alpha=l2 * len(y['train'])).fit(scaled['train'], y['train'])
      ridge.append((model.score(scaled['validation'], y['validation']),
                    lambda m=model, s=scaled: m.score(s['test'], y['test'])))  # fmt: skip
    for neighbours in (1, 5, 20):
      model = KNeighborsClassifier(neighbours, metric='cosine').fit(scaled['train'], y['train'])
      knn.append((model.score(scaled['validation'], y['validation']),
                  lambda m=model, s=scaled: m.score(s['test'], y['test'])))  # fmt: skip
  return found | {'ridge': best(ridge), 'knn': best(knn)}


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"'{argv[1]}' is not a flag")
  from benchmarks.end_to_end import OBJECTIVES

  chosen = flags.FLAGS
  tasks = [
    (name, int(seed), chosen.data, chosen.steps) for seed in chosen.seeds for name in OBJECTIVES
  ]
  # NumPy's products and scikit-learn's, in the processes to come: more would share the cores.
  os.environ.update(dict.fromkeys(('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS'), '1'))
  with multiprocessing.get_context('spawn').Pool(chosen.jobs, maxtasksperchild=1) as pool:
    results = dict(pool.imap_unordered(train, tasks))
  with open(chosen.out, 'w', encoding='utf-8') as file:
    json.dump(results, file, indent=1)


def define_flags() -> None:
  flags.DEFINE_string('data', None, 'An .npz of the splits.', required=True)
  flags.DEFINE_string('out', None, 'Where the results go, as JSON.', required=True)
  flags.DEFINE_list('seeds', ['0'], 'Of the trainings.')
  flags.DEFINE_integer('steps', 800, 'Updates.')
  flags.DEFINE_integer('jobs', 1, 'Trainings at a time.')


if __name__ == '__main__':
  define_flags()
  app.run(main)
