"""Newton's method with conjugate gradients for logistic regressions whose rows lie on a mesh.

The programs of `probes.mesh_logistic`, of one layer and J penalties at once. Features and
probabilities stay where they are; a product with the Hessian is two products with the features,
wide over all penalties and classes, and one reduction over devices.
"""

import functools

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from probes import mesh as mesh_lib
from probes.mesh import ROWS, SAME, add, over_blocks, part, product, total, zeros

INNER = 80  # Iterations of conjugate gradients for a step, at most.


def _block(n: int, wide: str, problems: int, classes: int, dims: int, where: str) -> int:
  item = jnp.dtype(wide).itemsize
  return mesh_lib.block_rows(n, item * (4 * problems * classes + dims), where)


@functools.partial(jax.jit, static_argnames=('mesh', 'wide'))
def gradient(x, labels, mask, weights_JxKxD, bias_JxK, *, mesh: Mesh, wide: str):
  """Sums over rows: loss (J,), its gradient (J, K, D) and (J, K), p (1 - p) (J, K); and p.

  p, the probabilities, are (devices n, J, K) float32, split over rows; all else is on all devices.
  """
  n, (problems, classes, dims) = x.shape[0] // mesh.size, weights_JxKxD.shape
  size = _block(n, wide, problems, classes, dims, mesh_lib.platform(mesh))

  def local(x, labels, mask, weights_JxKxD, bias_JxK):
    flat_DxM = weights_JxKxD.reshape(-1, dims).T.astype(wide)

    def body(first, fresh, carry):
      *sums, p_nxJxK = carry
      live = (part(mask, first, size) > 0) & fresh
      x_BxD = part(x, first, size).astype(wide)
      truth_BxK = part(labels, first, size)[:, None] == jnp.arange(classes)[None]
      z = product(x_BxD, flat_DxM).reshape(size, problems, classes) + bias_JxK.astype(wide)[None]
      z = z - z.max(2, keepdims=True)
      exponentials = jnp.exp(z)
      normaliser = exponentials.sum(2)
      p = exponentials / normaliser[..., None]
      nats = jnp.log(normaliser) - jnp.where(truth_BxK[:, None], z, 0).sum(2)
      kept = jnp.where(live[:, None, None], p, 0)
      residual = kept - (truth_BxK & live[:, None])[:, None].astype(wide)
      found = (
        jnp.where(live[:, None], nats, 0).sum(0),
        product(residual.reshape(size, -1).T, x_BxD),
        residual.sum(0),
        (kept * (1 - kept)).sum(0),
      )
      p_nxJxK = jax.lax.dynamic_update_slice_in_dim(p_nxJxK, p.astype(jnp.float32), first, 0)
      return *map(add, sums, found), p_nxJxK

    shapes = ((problems,), (problems * classes, dims), (problems, classes), (problems, classes))
    start = (
      *(zeros(shape, wide) for shape in shapes),
      jnp.zeros((n, problems, classes), jnp.float32),
    )
    *sums, p_nxJxK = over_blocks(n, size, body, start)
    loss, weights, bias, curvature = map(total, sums)
    return loss, weights.reshape(problems, classes, dims), bias, curvature, p_nxJxK

  specs = (ROWS, ROWS, ROWS, SAME, SAME)
  return mesh_lib.mapped(local, mesh, specs, (SAME, SAME, SAME, SAME, ROWS))(
    x, labels, mask, weights_JxKxD, bias_JxK
  )


def _curved(x, mask, p_nxJxK, weights_JxKxD, bias_JxK, size: int):
  """Inside shard_map: the loss's Hessian times a vector, summed over rows."""
  n, (problems, classes, dims) = x.shape[0], weights_JxKxD.shape
  flat_DxM = weights_JxKxD.reshape(-1, dims).T

  def body(first, fresh, sums):
    live = (part(mask, first, size) > 0) & fresh
    x_BxD, p = part(x, first, size), part(p_nxJxK, first, size)
    v = product(x_BxD, flat_DxM).reshape(size, problems, classes) + bias_JxK[None]
    u = p * (v - (p * v).sum(2, keepdims=True))
    u = jnp.where(live[:, None, None], u, 0)
    return add(sums[0], product(u.reshape(size, -1).T, x_BxD)), add(sums[1], u.sum(0))

  start = (zeros((problems * classes, dims), x.dtype), zeros((problems, classes), x.dtype))
  weights, bias = map(total, over_blocks(n, size, body, start))
  return weights.reshape(weights_JxKxD.shape), bias


@functools.partial(jax.jit, static_argnames='mesh')
def curved(x, mask, p, weights_JxKxD, bias_JxK, *, mesh: Mesh):
  """The loss's Hessian times a vector, summed over rows: what an iteration of `step` costs."""
  size = _block(x.shape[0] // mesh.size, 'float32', *weights_JxKxD.shape, mesh_lib.platform(mesh))
  function = functools.partial(_curved, size=size)
  return mesh_lib.mapped(function, mesh, (ROWS, ROWS, ROWS, SAME, SAME), (SAME, SAME))(
    x, mask, p, weights_JxKxD, bias_JxK
  )


@functools.partial(jax.jit, static_argnames='mesh')
def step(x, mask, p, g_JxKxD, g_JxK, curvature_JxK, basis, l2_J, bias_l2, stop_J, *, mesh: Mesh):
  """Newton's step by preconditioned conjugate gradients.

  Args:
    x, mask, p: as in `gradient`.
    g_JxKxD, g_JxK: gradient of the objective, penalties and division by N included, float32.
    curvature_JxK: mean over rows of p (1 - p).
    basis: eigenvectors (D, D) and eigenvalues (D,) of the Gram matrix, and N.
    l2_J, bias_l2: penalties.
    stop_J: certificate at which a problem's residual is small enough.

  Returns:
    The step (J, K, D) and (J, K), the change of logits that it makes is x times it; iterations
    (J,).
  """
  problems, classes, dims = g_JxKxD.shape
  size = _block(
    x.shape[0] // mesh.size, 'float32', problems, classes, dims, mesh_lib.platform(mesh)
  )

  def local(x, mask, p, g_JxKxD, g_JxK, curvature_JxK, basis, l2_J, bias_l2, stop_J):
    vectors_DxD, values_D, count = basis
    wide_l2 = l2_J[:, None, None]
    inverse_JxKxD = 1 / (curvature_JxK[..., None] * values_D[None, None] + wide_l2)
    inverse_JxK = 1 / (curvature_JxK + bias_l2)

    def hessian(d):
      weights, bias = _curved(x, mask, p, *d, size=size)
      return weights / count + wide_l2 * d[0], bias / count + bias_l2 * d[1]

    def precondition(r):
      rotated = product(r[0].reshape(-1, dims), vectors_DxD).reshape(r[0].shape) * inverse_JxKxD
      weights = product(rotated.reshape(-1, dims), vectors_DxD.T).reshape(r[0].shape)
      bias = r[1] * inverse_JxK
      return weights - weights.mean(1, keepdims=True), bias - bias.mean(1, keepdims=True)

    def dot(a, b):
      return (a[0] * b[0]).sum((1, 2)) + (a[1] * b[1]).sum(1)

    def certificate(r):
      return (r[0] ** 2).sum((1, 2)) / (2 * l2_J) + (r[1] ** 2).sum(1) / (2 * bias_l2)

    def along(a, scale_J, b):
      """a + scale b."""
      return a[0] + scale_J[:, None, None] * b[0], a[1] + scale_J[:, None] * b[1]

    def iterate(state):
      d, r, q, rz_J, open_J, used_J, number = state
      hq = hessian(q)
      curvature = dot(q, hq)
      alpha_J = jnp.where(open_J & (curvature > 0), rz_J / curvature, 0)
      d, r = along(d, alpha_J, q), along(r, -alpha_J, hq)
      z = precondition(r)
      now_J = dot(r, z)
      q = along(z, jnp.where(rz_J > 0, now_J / rz_J, 0), q)
      used_J = used_J + open_J
      open_J = open_J & (certificate(r) > stop_J) & (alpha_J > 0)
      return d, r, q, now_J, open_J, used_J, number + 1

    r = (-g_JxKxD, -g_JxK)
    z = precondition(r)
    open_J = certificate(r) > stop_J
    start = (jax.tree.map(jnp.zeros_like, r), r, z, dot(r, z), open_J)
    start += (jnp.zeros(problems, jnp.int32), jnp.int32(0))
    d, *_, used_J, _ = jax.lax.while_loop(
      lambda state: jnp.any(state[4]) & (state[6] < INNER), iterate, start
    )
    return *d, used_J

  return mesh_lib.mapped(local, mesh, (ROWS, ROWS, ROWS, *(SAME,) * 7), (SAME,) * 3)(
    x, mask, p, g_JxKxD, g_JxK, curvature_JxK, basis, l2_J, bias_l2, stop_J
  )


@functools.partial(jax.jit, static_argnames='mesh')
def bends(x, mask, p, d_JxKxD, d_JxK, sizes_T, *, mesh: Mesh):
  """Sums over rows of log sum_k p_k exp(t (v_k - mean_p v)), (J, T): how the loss bends along d."""
  problems, classes, dims = d_JxKxD.shape
  n = x.shape[0] // mesh.size
  size = _block(n, 'float32', problems, classes, dims, mesh_lib.platform(mesh))

  def local(x, mask, p_nxJxK, d_JxKxD, d_JxK, sizes_T):
    flat_DxM = d_JxKxD.reshape(-1, dims).T

    def body(first, fresh, sums):
      live = (part(mask, first, size) > 0) & fresh
      p = part(p_nxJxK, first, size)
      v = product(part(x, first, size), flat_DxM).reshape(size, problems, classes) + d_JxK[None]
      v = v - (p * v).sum(2, keepdims=True)

      def one(t):
        excess = (p * jnp.expm1(t * v)).sum(2)
        # It is not negative, but its rounding may be.
        return jnp.where(live[:, None], jnp.log1p(jnp.maximum(excess, 0)), 0).sum(0)

      return add(sums, jax.lax.map(one, sizes_T).T)

    return total(over_blocks(n, size, body, zeros((problems, len(sizes_T)), x.dtype)))

  return mesh_lib.mapped(local, mesh, (ROWS, ROWS, ROWS, SAME, SAME, SAME), SAME)(
    x, mask, p, d_JxKxD, d_JxK, sizes_T
  )
