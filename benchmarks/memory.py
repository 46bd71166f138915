r"""What recomputation saves, as the compiler states it: nothing is allocated.

python -m benchmarks.memory --preset=igpt_s --batch=8

Compiles the real training step ahead of time for one device, with every activation kept and under
each remat policy, and prints the compiler's own account. Arguments are parameters and optimizer
state (donated, so that the results live in the same place) and the batch; temporaries are all else
that is alive at the worst moment, activations for the backward pass above all.

On CPU the temporaries are those of XLA's CPU program: attention's T x T weights are held in
float32 where a fused kernel would have none, and bfloat16 products are widened. What remat saves is
the same kind of thing elsewhere; the figures of a chip come from a compilation for that chip.
"""

from collections.abc import Sequence
import json

from absl import app, flags

from models.config import PRESETS, ModelConfig

_SETTINGS = ('preset', 'vocabulary', 'length', 'batch', 'compute_dtype')


def table(rows: Sequence[dict]) -> str:
  """The rows for people, in MB."""
  lines = [f'{"remat":6} {"arguments":>10} {"temporary":>10} {"total MB":>10} {"compile s":>10}']
  for row in rows:
    arguments, temporary, total = (
      row[f'{name}_bytes'] / 2**20 for name in ('argument', 'temporary', 'total')
    )
    lines.append(
      f'{row["remat"]:6} {arguments:10,.0f} {temporary:10,.0f} {total:10,.0f} '
      f'{row["compile_seconds"]:10.1f}'
    )
  return '\n'.join(lines)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"'{argv[1]}' is not a flag")
  import jax
  import numpy as np

  from benchmarks import jax_train

  mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ('data',))
  shape = dict(
    vocabulary=flags.FLAGS.vocabulary, length=flags.FLAGS.length, **PRESETS[flags.FLAGS.preset]
  )
  rows = []
  for name, variant in jax_train.VARIANTS.items():
    model = ModelConfig(**shape, compute_dtype=flags.FLAGS.compute_dtype, **variant)
    rows.append({'remat': name, **jax_train.compiled(model, flags.FLAGS.batch, mesh)})
  print(
    f'{flags.FLAGS.preset}, batch {flags.FLAGS.batch}, {flags.FLAGS.compute_dtype}, '
    f'one {jax.default_backend()}'
  )
  print(table(rows))
  if flags.FLAGS.out:
    settings = {name: flags.FLAGS[name].value for name in _SETTINGS}
    with open(flags.FLAGS.out, 'w', encoding='utf-8') as file:
      json.dump({'settings': settings, 'rows': rows}, file, indent=1)
      file.write('\n')


def define_flags() -> None:
  flags.DEFINE_enum('preset', 'igpt_s', list(PRESETS), 'Width, layers and heads.')
  flags.DEFINE_integer('vocabulary', 512, 'Colours.', lower_bound=2)
  flags.DEFINE_integer('length', 1024, 'Tokens a sequence.', lower_bound=1)
  flags.DEFINE_integer('batch', 8, 'Sequences a step on the device.', lower_bound=1)
  flags.DEFINE_enum('compute_dtype', 'float32', ['float32', 'bfloat16'], 'Of activations.')
  flags.DEFINE_string('out', None, 'Where to write the rows as JSON.')


if __name__ == '__main__':
  define_flags()
  app.run(main)
