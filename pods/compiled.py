"""The programs of a run, compiled ahead of time for TPU slices that are not there."""

import functools
import math
import time
from typing import Any

import jax
from jax.experimental import mesh_utils, topologies
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh
import ml_collections
import numpy as np

from data import descriptions
import objectives
from pods import chips, hlo
from runs import experiment
from runs.errors import UserError
from training import keys, loop, sharding
from training import optimizer as optimizer_lib
from training import state as state_lib


class Slices:
  """TPU slices by name.

  Attributes:
    name: 'v5e:16x16'.
    count: how many slices.
    chip: what they are made of.
  """

  def __init__(self, name: str, count: int):
    """Raises UserError for a name that libtpu does not know, or if there is no libtpu."""
    self.name, self.count = name, count
    kind = name.partition(':')[0]
    if kind not in chips.CHIPS:
      raise UserError(
        f"unknown topology '{name}': it is CHIP:AxB or CHIP:AxBxC with CHIP one of "
        f'{", ".join(chips.CHIPS)}, as in v5e:16x16 or v5p:4x4x8'
      )
    if count < 1:
      raise UserError(f'--num_slices must be at least 1, not {count}')
    self.chip = chips.CHIPS[kind]
    options = dict(self.chip.options) | ({'num_slices': count} if count > 1 else {})
    try:
      described = topologies.get_topology_desc(platform='tpu', topology_name=name, **options)
    except Exception as error:
      reason = str(error).strip().splitlines()[0][:200]
      if 'libtpu' in reason.lower() and 'topology' not in reason.lower():
        raise UserError(f"libtpu can't be loaded (pip install -e '.[aot]'): {reason}") from error
      raise UserError(f"libtpu does not take the topology '{name}': {reason}") from error
    self._devices = described.devices

  @functools.cached_property
  def mesh(self) -> Mesh:
    """All chips on the axis `data`, those of one slice side by side, in the order of its wires."""
    by_slice: dict[int, list[Any]] = {}
    for device in self._devices:
      by_slice.setdefault(getattr(device, 'slice_index', 0), []).append(device)
    rings = [
      mesh_utils.create_device_mesh((len(some),), some, allow_split_physical_axes=True)
      for _, some in sorted(by_slice.items())
    ]
    return Mesh(np.concatenate(rings), ('data',), axis_types=(AxisType.Auto,))


def space(
  config: ml_collections.ConfigDict, vocabulary: int | None, length: int | None
) -> objectives.Space:
  """What the objective needs to know of the data, from the config or as given."""
  if vocabulary is not None:
    return objectives.Space(vocabulary, length, length)
  try:
    d = descriptions.describe(config.data)
  except ValueError as error:
    raise UserError(str(error)) from error
  return objectives.Space(d.vocabulary, d.length, d.dims, d.classes, d.ordinal, d.shape)


def report(
  config: ml_collections.ConfigDict, described: objectives.Space, slices: Slices
) -> dict[str, Any]:
  """Compiles the training step and the feature step; every number about them.

  Raises:
    UserError: a bad setting, or a program that does not fit, with the numbers.
  """
  mesh, asked = slices.mesh, config.training.batch_size
  with config.unlocked():
    # Every chip gets the same number of rows of every microbatch.
    config.training.batch_size += -asked % (mesh.size * max(1, config.training.microbatches))
  built = experiment.assemble(config, described, mesh)
  state = state_lib.abstract_state(
    built.task, optimizer_lib.for_task(built.task, config.optimizer, config.training.steps), mesh
  )
  key = jax.eval_shape(lambda: keys.key(0)).update(sharding=sharding.replicated(mesh))
  step = compile_program(
    lambda: loop.make_step(built.task, config).lower(
      state, _batch(built, config.training.batch_size, 'label'), _rows(built, mesh.size)
    ),
    'the training step', built, slices,
  )  # fmt: skip
  features = compile_program(
    lambda: built.extraction(None).lower(
      state.params, _batch(built, config.probe.batch_size, 'index'), key
    ),
    'the feature step', built, slices,
  )  # fmt: skip
  minimum = fsdp_minimum(state.params, config)
  sent = sum(step['collective_bytes'].values())
  costs = built.costs
  return {
    'topology': slices.name,
    'slices': slices.count,
    'chips': mesh.size,
    'objective': config.objective.name,
    'parameters': state_lib.count(state.params),
    'batch_size': config.training.batch_size,
    'batch_size_of_config': asked,
    'tokens_a_step': costs.tokens,
    'flops_a_step': costs.flops,
    'flops_a_token': costs.flops / costs.tokens,
    'hbm_bytes': slices.chip.hbm_bytes,
    'train_step': step,
    'feature_step': features,
    'fsdp_minimum_bytes': minimum['sharded'],
    'replicated_gradient_bytes': minimum['replicated'],
    'collectives_over_minimum': sent / minimum['sharded'] if minimum['sharded'] else None,
    'floor_seconds': _floor(built, state, step, slices),
  }


def _rows(built: experiment.Experiment, *shape: int) -> jax.ShapeDtypeStruct:
  """Integers whose first axis is split over the chips."""
  return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding.batch_sharding(built.mesh))


def _batch(built: experiment.Experiment, rows: int, beside: str) -> dict[str, Any]:
  """As many examples as every chip gets the same number of, and an integer beside each."""
  rows += -rows % built.mesh.size
  return {'tokens': _rows(built, rows, built.space.length), beside: _rows(built, rows)}


def compile_program(
  lower: Any, what: str, built: Any, slices: Slices, beside: int = 0, sends: bool = True
) -> dict[str, Any]:
  """Compiles and reads one program; UserError if it does not fit.

  `beside` are bytes a chip that stand in memory while it runs and are none of its arguments.
  Without `sends` its collectives are not counted: how often its loops run is not known beforehand.
  """
  begin = time.monotonic()
  try:
    program = lower().compile()
  except jax.errors.JaxRuntimeError as error:
    if 'RESOURCE_EXHAUSTED' not in str(error):
      raise
    reason = str(error).splitlines()[0].partition('RESOURCE_EXHAUSTED: ')[2]
    raise _does_not_fit(what, reason, built, slices) from error
  seconds = time.monotonic() - begin
  memory = program.memory_analysis()
  parts = {
    'arguments': memory.argument_size_in_bytes,
    'outputs': memory.output_size_in_bytes - memory.alias_size_in_bytes,
    'temporaries': memory.temp_size_in_bytes,
    'program': memory.generated_code_size_in_bytes,
  }
  peak = sum(parts.values()) + beside
  if peak > slices.chip.hbm_bytes:
    raise _does_not_fit(what, f'it needs {peak / chips.GIB:.2f} GiB a chip', built, slices)
  found = hlo.collectives(program.as_text(), slices.mesh.size) if sends else []
  return {
    'peak_bytes': peak,
    'memory': parts,
    'collective_bytes': hlo.by_kind(found),
    'largest_collectives': [
      {'kind': c.kind, 'bytes': c.bytes, 'times': c.times, 'where': c.where} for c in found[:8]
    ],
    'compile_seconds': seconds,
  }


def _does_not_fit(what: str, reason: str, built: Any, slices: Slices) -> UserError:
  config = built.config
  rows = config.training.batch_size // slices.mesh.size
  ways = [] if config.model.remat else ['--config.model.remat=True']
  if config.model.compute_dtype != 'bfloat16':
    ways.append('--config.model.compute_dtype=bfloat16')
  if rows > config.training.microbatches:
    ways.append(f'a smaller batch or more training.microbatches ({rows} rows a chip now)')
  ways.append('more chips')
  return UserError(
    f'{what} of {built.size} does not fit {slices.count} x {slices.name}, '
    f'{slices.chip.hbm_bytes / chips.GIB:.0f} GiB a chip: {reason} What helps: {", ".join(ways)}'
  )


def fsdp_minimum(params: Any, config: ml_collections.ConfigDict) -> dict[str, float]:
  """Bytes that a chip must send a step under fully sharded data parallelism.

  'sharded': every sharded parameter gathered in the compute dtype for forward and for backward,
  its gradient reduce-scattered in its own dtype, (N-1)/N of the buffer each time. 'replicated':
  what the gradients of replicated parameters, all-reduced, come to on top of it.
  """
  width = jnp.dtype(config.model.compute_dtype).itemsize
  totals = {'sharded': 0.0, 'replicated': 0.0}
  for leaf in jax.tree.leaves(params):
    devices = leaf.sharding.mesh.size
    share = (devices - 1) / devices * leaf.size * config.training.microbatches
    if leaf.sharding.is_fully_replicated:
      totals['replicated'] += share * 2 * leaf.dtype.itemsize
    else:
      totals['sharded'] += share * (2 * width + leaf.dtype.itemsize)
  return totals


def _floor(built: Any, state: Any, step: dict[str, Any], slices: Slices) -> dict[str, float]:
  """Seconds below which no training step can be, by what would be the limit; see docs/aot.md."""
  chip, memory = slices.chip, step['memory']
  width = jnp.dtype(built.model.compute_dtype).itemsize
  # The state is read and written, the whole network read for forward and for backward.
  moved = memory['arguments'] * 2 + 2 * width * state_lib.count(state.params)
  seconds = {
    'compute': built.costs.flops / slices.mesh.size / chip.flops,
    'hbm': moved / chip.hbm_bandwidth,
    'interconnect': sum(step['collective_bytes'].values()) / chip.interconnect,
  }
  return {**seconds, 'step': max(seconds.values())}


def lines(report: dict[str, Any]) -> list[str]:
  """The report for people."""
  r, floor = report, report['floor_seconds']
  hbm = r['hbm_bytes'] / chips.GIB
  out = [f'{r["slices"]} x {r["topology"]}, {r["chips"]} chips; {r["parameters"]:,} parameters']
  if r['batch_size'] != r['batch_size_of_config']:
    out.append(
      f"batch {r['batch_size']} instead of the config's {r['batch_size_of_config']}: it must "
      f'split evenly over {r["chips"]} chips'
    )
  for name, kind in (('training step', 'train_step'), ('feature step', 'feature_step')):
    program = r[kind]
    used, sent = program['peak_bytes'] / chips.GIB, program['collective_bytes']
    out.append(
      f'{name}: {used:.2f} of {hbm:.0f} GiB a chip ({used / hbm:.0%}); compiled in '
      f'{program["compile_seconds"]:.0f} s; sends '
      f'{in_bytes(sum(sent.values()))} a chip ({kinds(sent)})'
    )
  out.append(
    f'FLOPs: {r["flops_a_step"]:.3e} a step, {r["flops_a_token"]:.3e} a token '
    f'({r["tokens_a_step"]:,} tokens a step)'
  )
  ratio = r['collectives_over_minimum']
  out.append(
    f'FSDP minimum: {in_bytes(r["fsdp_minimum_bytes"])} a chip'
    + (f'; the training step sends {ratio:.2f} times that' if ratio else '; nothing is sharded')
    + f'; gradients of replicated parameters: {in_bytes(r["replicated_gradient_bytes"])}'
  )
  limits = {name: seconds for name, seconds in floor.items() if name != 'step'}
  limit = max(limits, key=lambda name: limits[name])
  parts = ', '.join(f'{name} {seconds * 1e3:.3g}' for name, seconds in limits.items())
  out.append(
    f'floor of a step: {floor["step"] * 1e3:.3g} ms by {limit} ({parts}); computed from the '
    'figures of the chip, never measured'
  )
  if r['slices'] > 1:
    out.append('the network between slices is slower than inside them and not in the floor')
  return out


def in_bytes(count: float) -> str:
  power = min(3, int(math.log(max(count, 1), 1000)))
  return f'{count / 1000**power:.3g} {("B", "kB", "MB", "GB")[power]}'


def kinds(by_kind: dict[str, float]) -> str:
  return ', '.join(f'{kind} {in_bytes(count)}' for kind, count in by_kind.items()) or 'nothing'
