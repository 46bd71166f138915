r"""How fast the codec encodes and decodes, beside one forward pass over the same data.

python -m benchmarks.codec --presets=nano --lengths=64,256,1024

The network is fresh but for random output weights; speed doesn't depend on what it knows. Encoder
and decoder walk from token to token with a key/value cache over a batch of examples; the forward
pass sees all tokens at once, which only an evaluation can. A row's tokens count as a byte each.
"by quarter" is the decoder's time a token in each quarter of the sequence over that in the first:
with a cache it grows by the attention alone; without one it would grow as the position does.
"""

from collections.abc import Sequence
import io
import json
import time

from absl import app, flags
import jax
import numpy as np

from codes import codec, container, network, trained
from models import transformer
from models.config import PRESETS, ModelConfig
from training import keys


class _Timed(trained.Trained):
  """Notes when each token was asked for."""

  def walk(self, code, orders_NxT):
    self.marks = []

    def marked(slot, p_BxV):
      self.marks.append(time.perf_counter())
      return code(slot, p_BxV)

    return super().walk(marked, orders_NxT)


def measure(model: ModelConfig, rows: int, batch: int, repeats: int) -> dict:
  """Seconds of encoding, decoding and evaluating `rows` examples, and decoding's by quarter."""
  params = transformer.init(model, keys.key(0))
  shape = params['output_DxV'].shape
  params['output_DxV'] = 0.3 * jax.random.normal(keys.key(1), shape)
  reading = network.Reading(model, model.length, tuple(range(model.length)))
  predictor = _Timed(reading, params, batch)
  tokens = np.random.default_rng(0).integers(0, model.vocabulary, (rows, model.length))
  source = codec.Source(tokens.size, lambda a, b: tokens.reshape(-1)[a:b])
  header = container.Header(
    kind=container.ARRAY, total=rows, dtype='<u2', shape=(model.length,), **predictor.claims()
  )
  apply = transformer.make_apply(model)

  @jax.jit
  def evaluate(params, tokens_BxT):
    logits = apply(params, tokens_BxT, pattern=('causal',), shift=True).logits_BxTxV
    log_p = jax.nn.log_softmax(logits)
    return -jax.numpy.take_along_axis(log_p, tokens_BxT[..., None], -1).sum()

  def encode():
    out = io.BytesIO()
    codec.encode(predictor, source, header, out)
    return out

  stream = encode()

  def decode():
    stream.seek(0)
    parts = list(codec.decode(predictor, tokens.size, container.Reader(stream)))
    assert np.array_equal(np.concatenate(parts), tokens.reshape(-1))

  def forward():
    for start, stop in container.slices(rows, batch):
      padded = np.pad(tokens[start:stop], ((0, batch - (stop - start)), (0, 0)))
      jax.block_until_ready(evaluate(params, padded.astype(np.int32)))

  seconds, quarters = {'encode': [], 'decode': [], 'forward': []}, []
  forward()
  for _ in range(repeats):
    for name, run in (('encode', encode), ('decode', decode), ('forward', forward)):
      begin = time.perf_counter()
      run()
      seconds[name].append(time.perf_counter() - begin)
      if name == 'decode':
        each = np.array_split(np.diff(predictor.marks), 4)
        quarters.append([float(np.median(part)) for part in each])
  return {
    **{f'{name}_seconds': float(np.median(found)) for name, found in seconds.items()},
    'quarters': np.median(quarters, axis=0).tolist(),
    'bytes': int(tokens.size),
    'stream_bytes': len(stream.getvalue()),
  }


def line(row: dict) -> str:
  """One measurement for people."""
  rate = {name: row['bytes'] / 1e3 / row[f'{name}_seconds'] for name in _NAMES}
  growth = ' '.join(f'{part / row["quarters"][0]:5.2f}' for part in row['quarters'])
  return (
    f'{row["preset"]:8} {row["length"]:6} {rate["encode"]:10.1f} {rate["decode"]:10.1f} '
    f'{rate["forward"]:10.1f} {rate["decode"] / rate["forward"]:8.2f}   {growth}'
  )


_NAMES = ('encode', 'decode', 'forward')


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"'{argv[1]}' is not a flag")
  unknown = set(flags.FLAGS.presets) - set(PRESETS)
  if unknown:
    raise app.UsageError(f'unknown preset {min(unknown)}; known: {", ".join(PRESETS)}')
  if not all(text.isdigit() and int(text) >= 8 for text in flags.FLAGS.lengths):
    raise app.UsageError('--lengths must be numbers from 8 on')
  print(f'{"":8} {"":6} {"encode":>10} {"decode":>10} {"forward":>10}  decode/  seconds a token')
  print(f'{"preset":8} {"length":>6} {"kB/s":>10} {"kB/s":>10} {"kB/s":>10}  forward  by quarter')
  rows = []
  for preset in flags.FLAGS.presets:
    for length in map(int, flags.FLAGS.lengths):
      model = ModelConfig(flags.FLAGS.vocabulary, length, **PRESETS[preset])
      made = measure(model, flags.FLAGS.rows, flags.FLAGS.batch, flags.FLAGS.repeats)
      rows.append({'preset': preset, 'length': length, **made})
      print(line(rows[-1]), flush=True)
  if flags.FLAGS.out:
    with open(flags.FLAGS.out, 'w', encoding='utf-8') as file:
      json.dump(rows, file, indent=1)


def define_flags() -> None:
  flags.DEFINE_list('presets', ['nano'], f'Of {", ".join(PRESETS)}.')
  flags.DEFINE_list('lengths', ['64', '256'], 'Tokens a sequence.')
  flags.DEFINE_integer('vocabulary', 256, 'V.', lower_bound=2)
  flags.DEFINE_integer('rows', 256, 'Examples.', lower_bound=1)
  flags.DEFINE_integer('batch', 256, 'Examples computed at a time.', lower_bound=1)
  flags.DEFINE_integer('repeats', 3, 'Of each measurement; the median counts.')
  flags.DEFINE_string('out', None, 'Where to write the rows as JSON.')


if __name__ == '__main__':
  define_flags()
  app.run(main)
