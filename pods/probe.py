"""The linear probe's programs, compiled ahead of time: the feature pass and the solver's step."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
import ml_collections

import objectives
from pods import chips, compiled
from probes import mesh as mesh_lib
from probes import mesh_logistic, newton_cg
from runs import experiment, extraction
from runs.errors import UserError
from training import keys, sharding
from training import optimizer as optimizer_lib
from training import state as state_lib

# Passes of the matrix units for a product of float32 at full precision.
PASSES = 6


def report(
  config: ml_collections.ConfigDict,
  described: objectives.Space,
  slices: compiled.Slices,
  rows: int,
) -> dict[str, Any]:
  """Compiles everything that fits all labels of `rows` training rows; every number about it.

  Raises:
    UserError: a bad setting, no labels, or a program that does not fit, with the numbers.
  """
  if not described.classes:
    raise UserError('the data has no labels to probe: name a data set that has, without --length')
  mesh, hbm = slices.mesh, slices.chip.hbm_bytes
  with config.unlocked():
    config.training.batch_size += -config.training.batch_size % (
      mesh.size * max(1, config.training.microbatches)
    )
  built = experiment.assemble(config, described, mesh)
  layers, width, poolings = built.model.layers + 1, built.model.width, 2
  each = -(-rows // mesh.size)
  group = extraction.group_size((rows,) * poolings, layers, width, mesh.size, hbm)
  features = 4 * group * poolings * each * width
  problems = min(
    len(config.probe.linear.l2), mesh_logistic.together(rows, described.classes, mesh.size, hbm)
  )
  shape = (rows, width, problems, described.classes)
  programs = {'feature pass': _feature_pass(built, slices, rows, group, poolings)}
  programs |= _solver(built, slices, shape, features)
  return {
    'topology': slices.name,
    'slices': slices.count,
    'chips': mesh.size,
    'objective': config.objective.name,
    'hbm_bytes': hbm,
    'rows': rows,
    'width': width,
    'classes': described.classes,
    'l2_together': problems,
    'l2': len(config.probe.linear.l2),
    'layers': layers,
    'layers_a_group': group,
    'features_bytes': features,
    'precision': mesh_lib.precision(mesh),
    'programs': programs,
  }


def _split(built: Any, axis: int, *shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
  spec = PartitionSpec(*(None,) * axis, 'data')
  return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(built.mesh, spec))


def _whole(built: Any, *shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding.replicated(built.mesh))


def _feature_pass(built: Any, slices: Any, rows: int, group: int, poolings: int) -> dict[str, Any]:
  """One batch of it, into the buffers of all training rows."""
  config, mesh = built.config, built.mesh
  state = state_lib.abstract_state(
    built.task, optimizer_lib.for_task(built.task, config.optimizer, config.training.steps), mesh
  )
  batch = config.probe.batch_size + -config.probe.batch_size % mesh.size
  total = mesh_lib.padded(rows, mesh)
  found = compiled.compile_program(
    lambda: built.writing(None).lower(
      tuple(_split(built, 1, group, total, built.model.width) for _ in range(poolings)),
      state.params,
      {
        'tokens': _split(built, 0, batch, built.space.length, dtype=jnp.int32),
        'index': _split(built, 0, batch, dtype=jnp.int32),
      },
      jax.eval_shape(lambda: keys.key(0)).update(sharding=sharding.replicated(mesh)),
      *(_whole(built, dtype=jnp.int32) for _ in range(2)),
    ),
    'the feature pass', built, slices,
  )  # fmt: skip
  flops = batch * built.objective.cost(built.model, built.space).flops
  return found | {
    'runs': -(-rows // batch),
    'floor_seconds': _floor(slices, flops, 2 * state_lib.count(state.params), found),
  }


def _solver(built: Any, slices: Any, shape: tuple[int, ...], features: int) -> dict[str, Any]:
  """Gradient, one product with the Hessian, a whole step of its iterations, the line search."""
  rows, width, problems, classes = shape
  total, mesh = mesh_lib.padded(rows, built.mesh), built.mesh
  x, mask = _split(built, 0, total, width), _split(built, 0, total)
  labels = _split(built, 0, total, dtype=jnp.int32)
  p = _split(built, 0, total, problems, classes)
  theta = (_whole(built, problems, classes, width), _whole(built, problems, classes))
  basis = (_whole(built, width, width), _whole(built, width), _whole(built))
  each = (_whole(built, problems), _whole(built), _whole(built, problems))
  sizes = _whole(built, len(mesh_logistic.TRIALS))
  wide = mesh_lib.widest(mesh)
  made = {
    'gradient': lambda: newton_cg.gradient.lower(x, labels, mask, *theta, mesh=mesh, wide=wide),
    'iteration': lambda: newton_cg.curved.lower(x, mask, p, *theta, mesh=mesh),
    'step': lambda: newton_cg.step.lower(x, mask, p, *theta, theta[1], basis, *each, mesh=mesh),
    'line search': lambda: newton_cg.bends.lower(x, mask, p, *theta, sizes, mesh=mesh),
  }
  # Two products with the features, of all l2 and classes; the line search needs one.
  flops = 4 * rows * width * problems * classes
  moved = 4 * rows // mesh.size * (width + problems * classes)
  found = {}
  for name, lower in made.items():
    one = compiled.compile_program(
      lower, f'the {name} of the linear probe', built, slices, features, name != 'step'
    )
    half = 2 if name == 'line search' else 1
    floor = None if name == 'step' else _floor(slices, PASSES * flops / half, moved, one)
    found[name] = one | {'floor_seconds': floor}
  return found


def _floor(slices: Any, flops: float, moved: float, program: dict[str, Any]) -> dict[str, float]:
  chip = slices.chip
  seconds = {
    'compute': flops / slices.mesh.size / chip.flops,
    'hbm': moved / chip.hbm_bandwidth,
    'interconnect': sum(program['collective_bytes'].values()) / chip.interconnect,
  }
  return {**seconds, 'all': max(seconds.values())}


def lines(report: dict[str, Any]) -> list[str]:
  """The report for people."""
  r, hbm = report, report['hbm_bytes'] / chips.GIB
  out = [
    f'{r["slices"]} x {r["topology"]}, {r["chips"]} chips; {r["rows"]:,} rows x {r["width"]} '
    f'features, {r["classes"]} classes, {r["l2_together"]} of {r["l2"]} penalties together',
    f'{r["layers_a_group"]} of {r["layers"]} layers at a time under two poolings: '
    f'{compiled.in_bytes(r["features_bytes"])} of training features a chip; certificates in '
    f'{r["precision"]}',
  ]
  for name, program in r['programs'].items():
    used, sent = program['peak_bytes'] / chips.GIB, program['collective_bytes']
    told = f'{name}: {used:.2f} of {hbm:.0f} GiB a chip ({used / hbm:.0%}); compiled in '
    told += f'{program["compile_seconds"]:.0f} s'
    floor = program['floor_seconds']
    if floor is None:
      told += f'; at most {newton_cg.INNER} iterations'
    else:
      told += f'; sends {compiled.in_bytes(sum(sent.values()))} a chip ({compiled.kinds(sent)})'
      limits = {limit: seconds for limit, seconds in floor.items() if limit != 'all'}
      parts = ', '.join(f'{limit} {seconds * 1e3:.3g}' for limit, seconds in limits.items())
      told += f'; floor {floor["all"] * 1e3:.3g} ms ({parts})'
    if 'runs' in program:
      told += f', {program["runs"]:,} times a group of layers'
    out.append(told)
  out.append(
    'floors are computed from the figures of the chip, never measured; float32 products count as '
    f'{PASSES} passes of the matrix units'
  )
  return out
