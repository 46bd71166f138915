"""The linear probe's two engines beside each other, and on a large problem beside scikit-learn.

Cases of `benchmarks.probes`.
"""

from collections.abc import Sequence
import time

import numpy as np

from benchmarks.probes import L2, in_process, make_features, row_of

# Too large for the host's engine to be chosen.
SHAPE, PENALTIES, CONDITION = (4, 100_000, 512, 100), L2[:6], 1e3


def on_mesh(shape: Sequence[int], l2: Sequence[float], repeats: int) -> dict:
  """All layers by the engine on the mesh, as `ours`; from raw features, layer by layer."""
  from probes import layers, mesh, mesh_logistic

  x, y = make_features(*shape, CONDITION)
  where, seconds = mesh.default(), []
  for _ in range(repeats):
    start, fits = time.perf_counter(), []
    for layer in range(shape[0]):
      rows, *_ = layers.standardised(x, layer, where)
      fits.append(mesh_logistic.fit(rows, y, l2, classes=shape[3], name=f'layer {layer}'))
      del rows
    seconds.append(time.perf_counter() - start)
  return {
    'first': seconds[0],
    'seconds': min(seconds[1:] or seconds),
    'certificate': float(max(fit.certificate.max() for fit in fits)),
    'precision': fits[0].precision,
    'objective': np.stack([fit.objective for fit in fits]),
  }


def on_host(shape: Sequence[int], l2: Sequence[float]) -> dict:
  """The same by the float64 engine, layer by layer, standardised as the probe does."""
  from probes import logistic, selection

  x, y = make_features(*shape, CONDITION)
  start, certificates, objectives = time.perf_counter(), [], []
  for one in x:
    z = selection.standardise(one, *selection.moments(one))
    fits = logistic.fit(z[None], y, l2, classes=shape[3])
    certificates.append(float(fits.certificate.max()))
    objectives.append(fits.objective[0])
  seconds = time.perf_counter() - start
  return {'seconds': seconds, 'certificate': max(certificates), 'objective': np.stack(objectives)}


def one_of_theirs(shape: Sequence[int], l2: float, seconds: float, best: float) -> dict:
  """scikit-learn's lbfgs in float32 on all cores: one layer, one penalty, so many seconds at most.

  Tolerances fall until the objective is within 1e-6 nats of ours, or time is up.
  """
  from sklearn.linear_model import LogisticRegression

  from probes import certificate, selection

  x, y = make_features(*shape, CONDITION)
  z = selection.standardise(x[0], *selection.moments(x[0]))
  ones, w = np.full((len(y), 1), np.sqrt(l2 / 1e-6), np.float32), np.full(len(y), 1 / len(y))
  data, begin, log = np.concatenate([z.astype(np.float32), ones], 1), time.perf_counter(), []
  for tolerance in (1e-4, 1e-5, 1e-6):
    model = LogisticRegression(
      C=1 / (len(y) * l2), fit_intercept=False, tol=tolerance, max_iter=2000
    )
    start = time.perf_counter()
    model.fit(data, y)
    took = time.perf_counter() - start
    theta = np.concatenate([model.coef_[:, :-1], model.coef_[:, -1:] * ones[0]], 1)
    theta = theta.astype(np.float64)[None]
    objective, bound = certificate.certify(z, y, w, theta, np.array([l2]), 1e-6)
    log.append({'tolerance': tolerance, 'seconds': took, 'above': float(objective[0] - best),
                'certificate': float(bound[0])})  # fmt: skip
    if objective[0] - best <= 1e-6 or time.perf_counter() - begin > seconds:
      break
  return {'seconds': log[-1]['seconds'], 'log': log}


def agreement(shape: Sequence[int]) -> list[dict]:
  """Both engines on the same problems: how far apart their objectives are, and how long it took."""
  mine, host = in_process(on_mesh, shape, L2, 2), in_process(on_host, shape, L2)
  apart = float(np.abs(host.pop('objective') - mine.pop('objective')).max())
  print(f'mesh {mine}\nhost {host}\nobjectives are at most {apart:.1e} nats apart')
  name = 'x'.join(map(str, shape[:3])) + ', mesh, host'
  return [row_of(name, mine, host) | {'apart_nats': apart}]


def large(limit: float) -> list[dict]:
  """The engine on the mesh, the host's and scikit-learn on one large problem.

  scikit-learn has one layer and one penalty to do, within `limit` seconds a try; its time is that
  times the number of them.
  """
  mine = in_process(on_mesh, SHAPE, PENALTIES, 1)
  best = mine.pop('objective')
  print(f'mesh {mine}', flush=True)
  host = in_process(on_host, SHAPE, PENALTIES)
  apart = float(np.abs(host.pop('objective') - best).max())
  print(f'host {host}\nobjectives are at most {apart:.1e} nats apart', flush=True)
  fits = SHAPE[0] * len(PENALTIES)
  peer = in_process(one_of_theirs, (1, *SHAPE[1:]), PENALTIES[2], limit, float(best[0, 2]))
  print(f'scikit-learn, 1 of {fits} fits {peer}', flush=True)
  peer['seconds'] *= fits
  row = row_of('x'.join(map(str, SHAPE[:3])) + f', {SHAPE[3]} classes', mine, peer)
  row |= {'apart_nats': apart, 'precision': mine['precision'], 'sklearn_of': f'1 of {fits} fits'}
  row |= {f'host_{name}': host[name] for name in ('seconds', 'certificate', 'peak_megabytes')}
  return [row]
