"""The linear probe's second engine: rows split over a mesh, the same problem, the same certificate.

The problem is that of `probes.logistic`, of one layer and all l2 at once; the programs are those of
`probes.newton_cg`.

*   Gradient and certificate are computed at parameters that are kept in float64. While far from the
    optimum in float32, then at the best precision that the platform has (`mesh.widest`), from the
    features as they stand on the devices: standardised float32. A fit is done when that certificate
    is within the gap, so that the last word does not depend on how the solver got there.
*   The step d solves H d = -g to a tolerance, in float32. Its error is a share of itself and is put
    right by the next one, so that float32 limits the speed of convergence and not where it ends.
*   Preconditioner: Böhning's bound on the Hessian, (I - 11'/K) (x) G / 2 at most, with the
    Gram matrix G in place of its weighted versions and each class's mean p (1 - p) in place of the
    bound: (c_k G + l2)^-1 by one eigendecomposition of G a layer, on the host in float64. Both
    gradient and step sum to zero over classes, and so does what is preconditioned.
*   The line search needs no product either: along d the loss changes by

        t g.d + mean_i log sum_k p_ik exp(t (v_ik - mean_p v_i)) + l2/2 t^2 |d|^2,    v = x d,

    in which the last two terms are sums of what is never negative: no digits cancel.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np

from probes import mesh as mesh_lib
from probes import newton_cg, sums
from probes.logistic import BIAS_L2, GAP
from probes.mesh import Rows, everywhere

STEPS = 60  # Of Newton's method.
FORCING = 0.03  # Share of the certificate that conjugate gradients leave of it, far away.
NARROW_UNTIL = 30.0  # From so many gaps on, gradients are of the best precision.
TRIALS = (1.0, 0.5, 0.25, 0.0625)  # Step sizes tried in one pass.
SHARE = 0.25  # Of a device's memory, for probabilities.


@dataclasses.dataclass(frozen=True)
class Fits:
  """Certified fits of one layer, float64.

  Attributes:
    weights, bias: (J, K, D) and (J, K).
    objective, certificate: (J,) nats, of the features as they are on the mesh.
    iterations: (J,) of conjugate gradients.
    precision: of objective and certificate, for people.
  """

  weights: np.ndarray
  bias: np.ndarray
  objective: np.ndarray
  certificate: np.ndarray
  iterations: np.ndarray
  precision: str


def fit(
  rows: Rows,
  labels_N: np.ndarray,
  l2: Sequence[float],
  *,
  classes: int,
  gap: float = GAP,
  bias_l2: float = BIAS_L2,
  name: str = 'the layer',
) -> Fits:
  """Fits one layer for every l2 to a certified gap.

  Args:
    rows: standardised.
    labels_N: integers in [0, classes).
    l2: (J,) positive penalties on the weights, on the mean loss.
    classes: K >= 2.
    gap: the certificate to reach, nats.
    bias_l2: penalty of the bias.
    name: of the layer, for errors.

  Raises:
    ValueError: a problem that could not be certified, or bad input.
  """
  labels_N, l2_J = np.asarray(labels_N), np.asarray(l2, np.float64).reshape(-1)
  if labels_N.shape != (rows.count,) or labels_N.min() < 0 or labels_N.max() >= classes:
    raise ValueError(f'labels must be {rows.count} integers from 0 to {classes - 1}')
  if classes < 2 or not len(l2_J) or min(*l2_J, gap, bias_l2) <= 0:
    raise ValueError('a probe needs at least 2 classes, and a positive l2, bias_l2 and gap')
  values_D, vectors_DxD = np.linalg.eigh(sums.gram(rows))
  basis = (vectors_DxD, np.maximum(values_D, 0), np.float64(rows.count))
  basis = tuple(everywhere(mesh_lib.agreed(a.astype(np.float32)), rows.mesh) for a in basis)
  labels = mesh_lib.place(labels_N.astype(np.int32), rows.mesh)
  most = together(rows.count, classes, rows.mesh.size, mesh_lib.memory(rows.mesh))
  parts = []
  for some_J in np.array_split(l2_J, -(-len(l2_J) // most)):
    problem = _Problem(rows, labels, basis, some_J, classes, gap, bias_l2)
    problem.solve()
    for j in np.flatnonzero(~(problem.certificate <= gap)):
      raise ValueError(
        f'logistic regression of {name} with l2={some_J[j]:g} stopped '
        f'{problem.certificate[j]:.1e} nats from its optimum, not within {gap:.1e} '
        f'({mesh_lib.precision(rows.mesh)})'
      )
    parts.append((*problem.theta, problem.objective, problem.certificate, problem.iterations))
  weights, bias, *told = (np.concatenate(part) for part in zip(*parts, strict=True))
  return Fits(weights, bias, *told, precision=mesh_lib.precision(rows.mesh))


def together(rows: int, classes: int, devices: int, memory: int) -> int:
  """Penalties whose probabilities fit devices of so many bytes at once; at least 1."""
  return max(1, int(SHARE * memory) // (4 * classes * -(-rows // devices)))


class _Problem:
  """Parameters of one layer for several l2, on the way to their optimum."""

  def __init__(self, rows, labels, basis, l2_J, classes: int, gap: float, bias_l2: float):
    self.rows, self.labels, self.basis, self.l2 = rows, labels, basis, l2_J
    self.gap, self.bias_l2 = gap, bias_l2
    shape = (len(l2_J), classes)
    self.theta = (np.zeros((*shape, rows.x.shape[1])), np.zeros(shape))
    self.objective = np.full(len(l2_J), np.inf)
    self.certificate = np.full(len(l2_J), np.inf)
    self.iterations = np.zeros(len(l2_J), int)

  def solve(self) -> None:
    """Newton's method: where far away in float32, then all together in the best precision."""
    wide, stuck = mesh_lib.widest(self.rows.mesh), np.zeros(len(self.l2), bool)
    far = np.ones(len(self.l2), bool)
    for _ in range(STEPS):
      if not far.any():
        break
      self._improve(np.flatnonzero(far), 'float32', stuck, last=False)
      far &= ~stuck & (self.certificate > NARROW_UNTIL * self.gap)
    stuck[:], self.certificate[:] = False, np.inf
    for _ in range(STEPS):
      chosen = np.flatnonzero(~(self.certificate <= self.gap) & ~stuck)
      if not len(chosen):
        break
      self._improve(chosen, wide, stuck, last=True)

  def _improve(self, chosen: np.ndarray, wide: str, stuck: np.ndarray, last: bool) -> None:
    """Judges these problems, and takes a step of those that are not done."""
    # Few widths, so that few programs are compiled.
    width = len(self.l2)
    while width // 2 >= len(chosen):
      width //= 2
    some = np.resize(chosen, width)
    problem = (self.rows.x, self.rows.mask, self.rows.mesh)
    l2_J, theta = self.l2[some], tuple(part[some] for part in self.theta)
    theta = tuple(part.astype(wide).astype(np.float64) for part in theta)
    self.theta[0][some], self.theta[1][some] = theta
    g, curvature, p = self._judge(some, theta, l2_J, wide)
    before = self.certificate[some]
    if last and (before <= self.gap).all():
      return
    target = np.maximum(0.2 * self.gap, FORCING * np.minimum(before, 1) * before)
    # Those that are done stay where they were judged.
    target = np.where(before <= self.gap, np.inf, target)
    d, used = self._step(problem, p, g, curvature, l2_J, target)
    self.iterations[chosen] += used[: len(chosen)]
    taken = self._sizes(problem, p, g, d, l2_J)
    stuck[chosen] |= (taken == 0)[: len(chosen)] & (before > self.gap)[: len(chosen)]
    first = slice(len(chosen))
    self.theta[0][chosen] += (taken[:, None, None] * d[0])[first]
    self.theta[1][chosen] += (taken[:, None] * d[1])[first]

  def _judge(self, some, theta, l2_J, wide: str):
    """Gradient (float64), mean p (1 - p), probabilities; keeps objective and certificate."""
    rows, count = self.rows, self.rows.count
    with mesh_lib.allowing(wide):
      sent = (everywhere(part.astype(wide), rows.mesh) for part in theta)
      *found, p = newton_cg.gradient(
        rows.x, self.labels, rows.mask, *sent, mesh=rows.mesh, wide=wide
      )
    loss, weights, bias, curvature = (np.asarray(s, np.float64) / count for s in found)
    g = (weights + l2_J[:, None, None] * theta[0], bias + self.bias_l2 * theta[1])
    penalty = l2_J * _square(theta[0]) / 2 + self.bias_l2 * _square(theta[1]) / 2
    bound = _square(g[0]) / (2 * l2_J) + _square(g[1]) / (2 * self.bias_l2)
    self.objective[some], self.certificate[some] = mesh_lib.agreed(
      np.stack([loss + penalty, bound])
    )
    return g, curvature, p

  def _step(self, problem, p, g, curvature, l2_J, target):
    x, mask, mesh = problem
    given = [a.astype(np.float32) for a in (*g, curvature)]
    given = [everywhere(a, mesh) for a in given]
    told = (l2_J, np.float64(self.bias_l2), target)
    told = [everywhere(np.asarray(a, np.float32), mesh) for a in told]
    *d, used = newton_cg.step(x, mask, p, *given, self.basis, *told, mesh=mesh)
    return tuple(np.asarray(part, np.float64) for part in d), np.asarray(used)

  def _sizes(self, problem, p, g, d, l2_J) -> np.ndarray:
    """Step sizes (J,) of the lowest objective among those tried; 0 where none lowers it."""
    x, mask, mesh = problem
    slope = (g[0] * d[0]).sum((1, 2)) + (g[1] * d[1]).sum(1)
    square = l2_J * _square(d[0]) + self.bias_l2 * _square(d[1])
    sent = [everywhere(part.astype(np.float32), mesh) for part in d]
    found = np.zeros(len(l2_J))
    for scale in (1.0, TRIALS[-1] / 2, (TRIALS[-1] / 2) ** 2):
      t = scale * np.asarray(TRIALS, np.float32)
      bent = newton_cg.bends(x, mask, p, *sent, everywhere(t, mesh), mesh=mesh)
      bent = np.asarray(bent, np.float64) / self.rows.count
      change = t * slope[:, None] + bent + t**2 / 2 * square[:, None]
      change = mesh_lib.agreed(np.where(np.isfinite(change), change, np.inf))
      better = (found == 0) & (change.min(1) < 0)
      found = np.where(better, t[change.argmin(1)], found)
      if ((found > 0) | (slope == 0)).all():
        break
    return found


def _square(a: np.ndarray) -> np.ndarray:
  """Sum of squares of each problem."""
  return (a**2).reshape(len(a), -1).sum(1)
