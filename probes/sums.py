"""Sums over the rows of one layer on a mesh: moments, Gram matrix, what a fit says of each row.

Letters as in `probes.mesh`.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding
import numpy as np

from probes import selection
from probes.mesh import (
  ROWS,
  SAME,
  Rows,
  add,
  agreed,
  allowing,
  block_rows,
  everywhere,
  mapped,
  over_blocks,
  part,
  place,
  platform,
  product,
  total,
  widest,
  zeros,
)


@functools.partial(jax.jit, static_argnames=('mesh', 'wide'))
def _sums(x, mask, shift_D, mean_D, *, mesh, wide):
  """Sums over rows of x - shift - mean and of its square, D each."""
  n, dims = x.shape[0] // mesh.size, x.shape[1]
  size = block_rows(n, 16 * dims, platform(mesh))

  def local(x, mask, shift_D, mean_D):
    def body(first, fresh, sums):
      live = (part(mask, first, size) > 0) & fresh
      moved = part(x, first, size).astype(wide) - shift_D.astype(wide)[None] - mean_D[None]
      moved = jnp.where(live[:, None], moved, 0)
      return add(sums[0], moved.sum(0)), add(sums[1], (moved**2).sum(0))

    return tuple(map(total, over_blocks(n, size, body, (zeros((dims,), wide),) * 2)))

  return mapped(local, mesh, (ROWS, ROWS, SAME, SAME), (SAME, SAME))(x, mask, shift_D, mean_D)


def moments(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
  """Mean and scale (D,) float64 of each feature, as `selection.moments`; in two passes.

  The first row is subtracted before anything is summed, so that an offset costs no digits.

  Raises:
    ValueError: NaN or infinity in a feature.
  """
  mesh, wide = rows.mesh, widest(rows.mesh)
  shift_D = np.asarray(take(rows, np.zeros(1, np.int32))[0], np.float32)
  with allowing(wide):
    arguments = (rows.x, rows.mask, everywhere(shift_D, mesh))
    zero = everywhere(np.zeros(shift_D.shape, wide), mesh)
    first, _ = _sums(*arguments, zero, mesh=mesh, wide=wide)
    moved_D = np.asarray(first, np.float64) / rows.count
    again, squares = _sums(*arguments, everywhere(moved_D.astype(wide), mesh), mesh=mesh, wide=wide)
  # What the second pass still finds of a mean is the rounding of the first.
  rest_D = np.asarray(again, np.float64) / rows.count
  mean_D = agreed(shift_D + moved_D + rest_D)
  variance_D = agreed(np.maximum(np.asarray(squares, np.float64) / rows.count - rest_D**2, 0))
  if not np.isfinite(mean_D + variance_D).all():
    raise ValueError('features hold NaN or infinity')
  constant = np.sqrt(variance_D) <= selection.CONSTANT * np.sqrt(variance_D + mean_D**2)
  return mean_D, np.where(constant, np.inf, np.sqrt(variance_D))


@functools.partial(jax.jit, static_argnames=('wide',))
def _standardise(x, shift_D, rest_D, inverse_D, *, wide):
  moved = x.astype(wide) - shift_D.astype(wide)[None] - rest_D[None]
  x = (moved * inverse_D[None]).astype(jnp.float32)
  return x, jnp.isfinite(x).all()


def standardise(rows: Rows, mean_D: np.ndarray, scale_D: np.ndarray) -> Rows:
  """(x - mean) / scale, rounded to float32 at the end; zero where the scale is infinite.

  Raises:
    ValueError: NaN or infinity in a feature.
  """
  mesh, wide = rows.mesh, widest(rows.mesh)
  shift_D = mean_D.astype(np.float32)
  with allowing(wide):
    parts = ((mean_D - shift_D).astype(wide), (1 / scale_D).astype(wide))
    sent = (everywhere(p, mesh) for p in (shift_D, *parts))
    x, finite = _standardise(rows.x, *sent, wide=wide)
  if not np.asarray(finite):
    raise ValueError('features hold NaN or infinity')
  return dataclasses.replace(rows, x=x)


@functools.partial(jax.jit, static_argnames=('mesh', 'wide'))
def _gram(x, mask, *, mesh, wide):
  n, dims = x.shape[0] // mesh.size, x.shape[1]
  size = block_rows(n, 16 * dims, platform(mesh))

  def local(x, mask):
    def body(first, fresh, sums):
      live = (part(mask, first, size) > 0) & fresh
      block = jnp.where(live[:, None], part(x, first, size), 0).astype(wide)
      return add(sums, product(block.T, block))

    return total(over_blocks(n, size, body, zeros((dims, dims), wide)))

  return mapped(local, mesh, (ROWS, ROWS), SAME)(x, mask)


def gram(rows: Rows, wide: str = 'float32') -> np.ndarray:
  """x'x / N of standardised rows, (D, D) float64 from products of `wide` numbers."""
  with allowing(wide):
    found = _gram(rows.x, rows.mask, mesh=rows.mesh, wide=wide)
  return np.asarray(found, np.float64) / rows.count


@functools.partial(jax.jit, static_argnames='mesh')
def _take(x, rows, *, mesh):
  return jax.lax.with_sharding_constraint(x[rows], NamedSharding(mesh, SAME))


def take(rows: Rows, which: np.ndarray) -> np.ndarray:
  """These rows (numbers below N) on every host, (len(which), D) float32."""
  return np.asarray(
    _take(rows.x, everywhere(np.asarray(which, np.int32), rows.mesh), mesh=rows.mesh)
  )


@functools.partial(jax.jit, static_argnames='mesh')
def _judge(x, labels, weights_JxKxD, bias_JxK, squared, *, mesh):
  n, (problems, classes, dims) = x.shape[0] // mesh.size, weights_JxKxD.shape
  size = block_rows(n, 16 * problems * classes, platform(mesh))

  def local(x, labels, weights_JxKxD, bias_JxK, squared):
    flat_DxM = weights_JxKxD.reshape(-1, dims).T

    def body(first, fresh, found):
      del fresh
      z = product(part(x, first, size), flat_DxM).reshape(size, problems, classes)
      z = z + bias_JxK[None]
      predicted = z.argmax(2).astype(jnp.int32)
      own = part(labels, first, size)[:, None, None]
      truth = jnp.take_along_axis(z, own, 2)[..., 0]
      top = z.max(2)
      nats = jnp.log(jnp.exp(z - top[..., None]).sum(2)) + (top - truth)
      apart = ((z - (own == jnp.arange(classes)[None, None])) ** 2).sum(2)
      new = (jnp.where(squared, apart, nats), predicted)
      return jax.tree.map(
        lambda whole, one: jax.lax.dynamic_update_slice_in_dim(whole, one, first, 0), found, new
      )

    shape = (n, problems)
    return over_blocks(n, size, body, (jnp.zeros(shape), jnp.zeros(shape, jnp.int32)))

  split = mapped(local, mesh, (ROWS, ROWS, SAME, SAME, SAME), (ROWS, ROWS))
  found = split(x, labels, weights_JxKxD, bias_JxK, squared)
  return jax.lax.with_sharding_constraint(found, NamedSharding(mesh, SAME))


def judge(
  rows: Rows,
  labels_N: np.ndarray,
  weights_JxKxD: np.ndarray,
  bias_JxK: np.ndarray,
  squared: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
  """Cross-entropy (J, N) float32, nats, and predictions (J, N) int32 of fits, on every host.

  With `squared` the squared error against one-hot labels instead of the cross-entropy.
  """
  mesh = rows.mesh
  theta = (everywhere(np.asarray(p, np.float32), mesh) for p in (weights_JxKxD, bias_JxK))
  labels = place(np.asarray(labels_N, np.int32), mesh)
  found = _judge(rows.x, labels, *theta, everywhere(np.bool_(squared), mesh), mesh=mesh)
  nats, predictions = (np.asarray(part)[: rows.count].T for part in found)
  return nats, predictions


@functools.partial(jax.jit, static_argnames=('mesh', 'classes', 'wide'))
def _class_sums(x, labels, mask, *, mesh, classes, wide):
  n, dims = x.shape[0] // mesh.size, x.shape[1]
  size = block_rows(n, 8 * (dims + classes), platform(mesh))

  def local(x, labels, mask):
    def body(first, fresh, sums):
      live = (part(mask, first, size) > 0) & fresh
      member = (part(labels, first, size)[:, None] == jnp.arange(classes)[None]) & live[:, None]
      return add(sums, product(member.T.astype(wide), part(x, first, size).astype(wide)))

    return total(over_blocks(n, size, body, zeros((classes, dims), wide)))

  return mapped(local, mesh, (ROWS, ROWS, ROWS), SAME)(x, labels, mask)


def class_sums(rows: Rows, labels_N: np.ndarray, classes: int) -> np.ndarray:
  """Sum of the rows of each class, (K, D), in the best precision there is."""
  wide, labels = widest(rows.mesh), place(np.asarray(labels_N, np.int32), rows.mesh)
  with allowing(wide):
    how = {'mesh': rows.mesh, 'classes': classes, 'wide': wide}
    return np.asarray(_class_sums(rows.x, labels, rows.mask, **how), np.float64)
