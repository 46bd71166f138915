"""The scikit-learn side of the probe benchmark: the best setting of its logistic regression.

Its intercept is unpenalised. Under our objective (a penalty of 1e-6 on the bias) its optimum is
within 1e-6 |b|^2 / 2 nats of ours, so the same certificate judges both.
"""

from collections.abc import Sequence
import dataclasses
import time
import warnings

import joblib
from joblib.externals import loky
import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from probes import logistic
from probes.certificate import certify

TOLERANCES = (1e-3, 3e-4, 1e-4, 3e-5, 1e-5, 3e-6, 1e-6, 1e-7, 1e-8)
# lbfgs in float32 is mostly the quickest. newton-cholesky forms a Hessian of (classes x width)^2
# entries: tried only where the others take longer than it would.
CANDIDATES = (
  ('lbfgs', 'float32'),
  ('lbfgs', 'float64'),
  ('newton-cg', 'float64'),
  ('newton-cholesky', 'float64'),
)
_HESSIAN_SECONDS = 5.0
_MAX_ITERATIONS = 20_000


@dataclasses.dataclass(frozen=True)
class Setting:
  """What is tuned for each penalty."""

  solver: str
  dtype: str
  tolerance: float


@dataclasses.dataclass(frozen=True)
class Solved:
  """One fit: where it stopped, and how long it took."""

  objective: float
  certificate: float
  seconds: float


def solve(x_NxD: np.ndarray, y_N: np.ndarray, l2: float, setting: Setting) -> Solved:
  """Fits once; the certificate is computed outside the time."""
  x = np.ascontiguousarray(x_NxD, setting.dtype)
  start = time.perf_counter()
  model = LogisticRegression(
    C=1 / (len(y_N) * l2), tol=setting.tolerance, solver=setting.solver, max_iter=_MAX_ITERATIONS
  )
  with warnings.catch_warnings():
    warnings.simplefilter('ignore', ConvergenceWarning)
    model.fit(x, y_N)
  seconds = time.perf_counter() - start
  theta = np.c_[model.coef_, model.intercept_].astype(np.float64)[None]
  share = np.full(len(y_N), 1 / len(y_N))
  objective, certificate = certify(
    x_NxD.astype(np.float64), y_N, share, theta, np.array([l2]), logistic.BIAS_L2
  )
  return Solved(float(objective[0]), float(certificate[0]), seconds)


def tune(
  x_NxD: np.ndarray, y_N: np.ndarray, l2: float, gap: float, best: float, limit: float
) -> tuple[dict[str, Setting], list[str]]:
  """The fastest setting of one thread that reaches the gap, for two meanings of the gap.

  Args:
    x_NxD, y_N: one layer.
    l2: the penalty.
    gap: nats.
    best: objective at the optimum, known from a certified fit.
    limit: seconds after which a solver's ladder of tolerances is left.

  Returns:
    Settings for 'certified' (certificate <= gap) and 'true' (objective - best <= gap), and a line
    on every ladder. A meaning that no setting reached is absent.
  """
  fastest: dict[str, tuple[float, Setting]] = {}
  lines = []
  for solver, dtype in CANDIDATES:
    quickest = min((seconds for seconds, _ in fastest.values()), default=limit)
    if solver == 'newton-cholesky' and quickest < _HESSIAN_SECONDS:
      continue
    spent, reached = 0.0, set()
    for tolerance in TOLERANCES:
      setting = Setting(solver, dtype, tolerance)
      solved = _one(x_NxD, y_N, l2, setting)
      spent += solved.seconds
      gaps = {'certified': solved.certificate, 'true': solved.objective - best}
      for meaning in [m for m in gaps if gaps[m] <= gap and m not in reached]:
        reached.add(meaning)
        if meaning not in fastest or solved.seconds < fastest[meaning][0]:
          fastest[meaning] = (solved.seconds, setting)
      beaten = all(m in fastest and solved.seconds > fastest[m][0] for m in gaps)
      if len(reached) == 2 or spent > limit or beaten:
        break
    lines.append(f'{solver} {dtype}, l2 {l2:g}: reached {sorted(reached)} in {spent:.1f} s')
  return {meaning: setting for meaning, (_, setting) in fastest.items()}, lines


def _one(x_NxD: np.ndarray, y_N: np.ndarray, l2: float, setting: Setting) -> Solved:
  with threadpool_limits(1):
    return solve(x_NxD, y_N, l2, setting)


def all_fits(
  x_LxNxD: np.ndarray,
  y_N: np.ndarray,
  l2_J: Sequence[float],
  settings: Sequence[Setting],
  processes: int,
) -> tuple[float, np.ndarray, np.ndarray]:
  """Every layer and penalty, one single-threaded fit a process at a time.

  Returns:
    seconds of the whole, certificates and objectives (layers, penalties).
  """
  tasks = [(x, l2, setting) for x in x_LxNxD for l2, setting in zip(l2_J, settings, strict=True)]
  with joblib.Parallel(n_jobs=processes) as pool:
    # Workers start, import and warm up outside the time.
    pool(joblib.delayed(_one)(x_LxNxD[0][:200], y_N[:200], 1.0, settings[0]) for _ in range(8))
    start = time.perf_counter()
    solved = pool(joblib.delayed(_one)(x, y_N, l2, setting) for x, l2, setting in tasks)
    seconds = time.perf_counter() - start
  shape = (len(x_LxNxD), len(l2_J))
  certificates = np.array([fit.certificate for fit in solved]).reshape(shape)
  return seconds, certificates, np.array([fit.objective for fit in solved]).reshape(shape)


def stop_workers() -> None:
  """Ends joblib's processes, which would otherwise idle for minutes and hold their parent."""
  loky.get_reusable_executor().shutdown(wait=True)


def ridge_fits(
  x_LxNxD: np.ndarray, targets_NxK: np.ndarray, l2_J: Sequence[float], processes: int
) -> dict[str, float]:
  """Seconds of scikit-learn's ridge over layers and penalties, by solver and precision.

  One single-threaded fit a process at a time.
  """
  found = {}
  with joblib.Parallel(n_jobs=processes) as pool:
    for solver, dtype in (('cholesky', 'float64'), ('cholesky', 'float32'), ('svd', 'float64')):
      x, y = x_LxNxD.astype(dtype), targets_NxK.astype(dtype)
      pool(joblib.delayed(_ridge)(x[0][:200], y[:200], 1.0, solver) for _ in range(8))
      start = time.perf_counter()
      pool(joblib.delayed(_ridge)(layer, y, l2, solver) for layer in x for l2 in l2_J)
      found[f'{solver} {dtype}'] = time.perf_counter() - start
  return found


def _ridge(x_NxD: np.ndarray, y_NxK: np.ndarray, l2: float, solver: str) -> None:
  with threadpool_limits(1):
    Ridge(alpha=l2 * len(x_NxD), solver=solver).fit(x_NxD, y_NxK)
