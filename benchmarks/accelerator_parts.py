"""The parts of benchmarks.accelerator; each writes rows as it finds them."""

from collections.abc import Callable, Iterator, Sequence
import glob
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

from absl import app, flags

from benchmarks.sizes import Size

Rows = Iterator[dict[str, Any]]

# Peak bfloat16 FLOP/s without sparsity, from the makers' data sheets, by part of the device's name.
_PEAKS = {'H200': 989e12, 'H100': 989e12, 'A100': 312e12, 'L40S': 362e12, 'L4': 121e12}
_IGPT_S = Size('iGPT-S', 512, 1024, 512, 24, 8, 32)
_MIDDLE = Size('25M', 512, 1024, 512, 8, 8, 64)
_TOY = Size('toy', 17, 64, 64, 2, 4, 4)
_TOY_RUN = (
  '--config.model.width=16',
  '--config.model.layers=1',
  '--config.model.heads=2',
  '--config.optimizer.warmup_steps=2',
  '--config.evaluation.draws=2',
  '--config.evaluation.samples=0',
  "--config.probe.suite=('linear',)",
  '--config.probe.linear.labels=10',
  '--config.probe.linear.draws=1',
)


def device(toy: bool, scratch: str) -> Rows:
  """What all of it is measured on."""
  del toy, scratch
  from runs import provenance

  yield {**provenance.environment(), 'versions': provenance.versions(), 'cores': os.cpu_count()}


def parity(toy: bool, scratch: str) -> Rows:
  """One training here and on the CPU: losses by step, and one checkpoint's bits by both."""
  steps = 8 if toy else 200
  settings = [f'--config.training.steps={steps}', '--config.training.log_every=1']
  settings += ['--config.evaluators.probe.every=0', '--config.evaluators.samples.every=0']
  settings += ["--config.probe.suite=('linear',)", '--config.evaluation.samples=0']
  settings += _TOY_RUN if toy else []
  curves = {}
  for where, platform in (('here', None), ('cpu', 'cpu')):
    run = os.path.join(scratch, f'parity_{where}')
    _command(
      ['launch.train', '--config=experiments/digits.py:autoregressive', f'--workdir={run}']
      + [f'--data_dir={scratch}/data', *settings],
      platform,
    )
    with open(os.path.join(run, 'metrics.jsonl'), encoding='utf-8') as file:
      points = [json.loads(line) for line in file]
    curves[where] = {p['step']: p['train/loss'] for p in points if 'train/loss' in p}
  run = os.path.join(scratch, 'parity_here')
  bits = {}
  for where, platform in (('here', None), ('cpu', 'cpu')):
    _command(['benchmarks.accelerator_parts', '--part=bits', f'--scratch={scratch}',
                     f'--rows={scratch}/bits_{where}.jsonl', f'--run={run}'], platform)  # fmt: skip
    with open(f'{scratch}/bits_{where}.jsonl', encoding='utf-8') as file:
      bits[where] = json.loads(file.read())['bits_per_dim']
  differences = [abs(curves['here'][step] - curves['cpu'][step]) for step in curves['cpu']]
  yield {
    'steps': steps,
    'first_loss_difference': differences[0],
    'largest_loss_difference': max(differences),
    'last_loss_here': list(curves['here'].values())[-1],
    'last_loss_cpu': list(curves['cpu'].values())[-1],
    'bits_here': bits['here'],
    'bits_cpu': bits['cpu'],
    'bits_difference': abs(bits['here'] - bits['cpu']),
  }


def bits_of_run(run: str, data_dir: str) -> Rows:
  """Bits per dimension of a finished run's last checkpoint, scored again by this process."""
  from runs import experiment, finished, measured
  from runs import run as run_lib

  config, _ = finished.read(run)
  built = experiment.build(config, data_dir, run)
  state, _ = run_lib.restore(built, run, best=False)
  record, _ = measured.score(built, state.params)
  yield {'bits_per_dim': record['bits_per_dim']}


def attention(toy: bool, scratch: str) -> Rows:
  """The fused kernel that this platform has, beside plain attention in float32."""
  del scratch
  import jax
  import jax.numpy as jnp
  import numpy as np

  from models import kernels, layers
  from training import keys

  platform = jax.default_backend()
  # Nothing fused runs on a CPU; the TPU's kernel can be interpreted there.
  fused = {'gpu': kernels.cudnn, 'tpu': kernels.tpu}.get(
    platform, lambda *args: kernels.tpu(*args, interpret=True)
  )
  batch, heads, width = 2, 4, 64
  for tokens in (64,) if toy else (64, 128, 192, 1024):
    for form in ('causal', 'full'):
      shape = (batch * heads, tokens, width)
      drawn = [jax.random.normal(keys.key(i), shape, jnp.bfloat16) for i in range(4)]
      mask = jnp.tril(jnp.ones((1, tokens, tokens), bool)) if form == 'causal' else None

      def plain(q: Any, k: Any, v: Any, mask: Any = mask) -> Any:
        return layers.attention(*(x.astype(jnp.float32) for x in (q, k, v)), mask)

      def quick(q: Any, k: Any, v: Any, form: str = form) -> Any:
        return fused(q, k, v, batch, form).astype(jnp.float32)

      def both(attend: Callable, drawn: Any = drawn) -> Any:
        def value(q: Any, k: Any, v: Any) -> Any:
          out = attend(q, k, v)
          return jnp.sum(out * drawn[3].astype(jnp.float32)), out

        made = jax.jit(jax.value_and_grad(value, (0, 1, 2), has_aux=True))
        (_, out), gradients = made(*drawn[:3])
        return [np.asarray(x, np.float32) for x in (out, *gradients)], made

      (want, slow), (got, fast) = both(plain), both(quick)
      largest = [float(np.abs(a).max()) for a in want]
      errors = [float(np.abs(a - b).max()) for a, b in zip(want, got, strict=True)]
      yield {
        'tokens': tokens,
        'form': form,
        'kernel': 'cudnn' if platform == 'gpu' else 'splash',
        'value_error': errors[0] / largest[0],
        'gradient_error': max(e / m for e, m in zip(errors[1:], largest[1:], strict=True)),
        'nan': bool(any(np.isnan(x).any() for x in got)),
        'plain_ms': _milliseconds(slow, drawn[:3]),
        'fused_ms': _milliseconds(fast, drawn[:3]),
      }


def training(toy: bool, scratch: str) -> Rows:
  """Our step and PyTorch's on the same network, in processes of their own (memory is theirs)."""
  for size in (_TOY,) if toy else (_MIDDLE, _IGPT_S):
    for library in ('ours', 'torch'):
      if library == 'torch' and importlib.util.find_spec('torch') is None:
        yield {'size': size.name, 'library': library, 'failed': 'PyTorch is not installed'}
        continue
      # The largest batch that fits, from the one wished for down.
      batch, said = size.batch, ''
      while batch:
        rows = os.path.join(scratch, f'{size.name}_{library}_{batch}.jsonl')
        try:
          _command(
            ['benchmarks.accelerator_parts', f'--part=train_{library}', f'--size={size.name}']
            + [f'--batch={batch}', f'--scratch={scratch}', f'--rows={rows}', *_flag(toy)]
          )
        except RuntimeError as error:
          said, batch = str(error), batch // 2
          if 'memory' not in said.lower() and 'resource_exhausted' not in said.lower():
            break
          continue
        with open(rows, encoding='utf-8') as file:
          yield json.loads(file.read())
        break
      else:
        said = said or 'nothing fits'
      if said and not os.path.exists(rows):
        yield {'size': size.name, 'library': library, 'failed': said[:500]}


def train_ours(size: Size, seconds: float) -> Rows:
  """Our update in bfloat16 with the platform's fused attention."""
  import jax

  from benchmarks import jax_train
  from benchmarks.workers import make_batches

  accelerated = jax.default_backend() != 'cpu'
  model: dict[str, Any] = {'compute_dtype': 'bfloat16', 'unroll': size.layers <= 12}
  if accelerated:
    model['attention'] = {'gpu': 'cudnn', 'tpu': 'tpu'}[jax.default_backend()]
  known, run = jax_train.start(size, make_batches(size, 4), **model)
  device = jax.devices()[0]
  row = _speed(size, run, seconds, _peak(device.device_kind) or _product(jax_train))
  memory = device.memory_stats() or {}  # A CPU has none.
  yield {'library': 'ours', **row, 'attention': model.get('attention', 'xla'),
         'first_step_seconds': known['first_seconds'],
         'peak_bytes': memory.get('peak_bytes_in_use'), 'version': known['version']}  # fmt: skip


def train_torch(size: Size, seconds: float) -> Rows:
  """The same network by torch.compile with scaled_dot_product_attention, autocast to bfloat16."""
  import torch

  from benchmarks import torch_train
  from benchmarks.workers import make_batches

  there = torch.cuda.is_available()
  # On a CPU compiling would need a compiler of C++.
  known, run = torch_train.start(
    size, make_batches(size, 4), torch.get_num_threads(), 'fused',
    device='cuda' if there else 'cpu', compiled=there, bfloat16=True,
  )  # fmt: skip
  name = torch.cuda.get_device_name() if there else 'cpu'
  row = _speed(size, run, seconds, _peak(name) or _product(torch_train))
  yield {'library': 'torch', **row, 'attention': 'scaled_dot_product_attention',
         'first_step_seconds': known['first_seconds'],
         'peak_bytes': torch.cuda.max_memory_allocated() if there else None,
         'version': known['version']}  # fmt: skip


def codec(toy: bool, scratch: str) -> Rows:
  """A run's file, encoded once and decoded by processes of their own."""
  run = os.path.join(scratch, 'parity_here')
  if not os.path.exists(os.path.join(run, 'run.json')):
    raise RuntimeError('the part parity leaves the run that this part needs')
  data, coded = os.path.join(scratch, 'test.npy'), os.path.join(scratch, 'test.bpc')
  common = ['launch.compress', f'--run={run}', f'--data_dir={scratch}/data']
  _command([*common, 'export', 'test', data])
  begin = time.perf_counter()
  _command([*common, 'encode', data, coded])
  row: dict[str, Any] = {'encode_seconds': time.perf_counter() - begin}
  row |= {'bytes': os.path.getsize(coded), 'decoded': 0, 'right': 0, 'decode_seconds': []}
  for number in range(1 if toy else 10):
    out = os.path.join(scratch, f'again{number}.npy')
    begin = time.perf_counter()
    _command([*common, 'decode', coded, out])
    row['decode_seconds'].append(time.perf_counter() - begin)
    row['decoded'] += 1
    row['right'] += _same(data, out)
  yield row


def probe(toy: bool, scratch: str) -> Rows:
  """The linear probe of all labels on made-up features: seconds and the certificate."""
  del scratch
  import numpy as np

  from probes import logistic, selection

  rows, dims, classes, layers = (500, 16, 4, 2) if toy else (20_000, 256, 10, 4)
  rng = np.random.default_rng(0)
  labels_N = rng.integers(classes, size=rows)
  means = rng.normal(size=(layers, classes, dims))
  features = (means[:, labels_N] * 0.2 + rng.normal(size=(layers, rows, dims))).astype(np.float32)
  standard = selection.standardise(features, *selection.moments(features))
  for l2 in ([1e-3], [1e-4, 1e-3, 1e-2, 1e-1]):
    seconds = []
    for _ in range(2):
      begin = time.perf_counter()
      fits = logistic.fit(standard, labels_N, l2, classes=classes)
      seconds.append(time.perf_counter() - begin)
    yield {'rows': rows, 'dims': dims, 'classes': classes, 'layers': layers, 'penalties': len(l2),
           'first_seconds': seconds[0], 'seconds': seconds[1],
           'certificate': float(fits.certificate.max())}  # fmt: skip


def compare(toy: bool, scratch: str) -> Rows:
  """launch.compare on digits with one seed: everything that `make compare` does of it."""
  settings = [*_TOY_RUN, '--config.training.steps=4', '--objectives=autoregressive']
  begin = time.perf_counter()
  workdir = os.path.join(scratch, 'compare')
  _command(
    ['launch.compare', '--config=experiments/digits.py', f'--workdir={workdir}', '--seeds=0']
    + [f'--data_dir={scratch}/data', *(settings if toy else [])]
  )
  seconds = time.perf_counter() - begin
  records = []
  for path in glob.glob(os.path.join(workdir, 'runs', '*', 'run.json')):
    with open(path, encoding='utf-8') as file:
      records.append(json.load(file))
  yield {
    'seconds': seconds,
    'runs': len(records),
    'training_seconds': sum(record['wall_seconds'] for record in records),
    'bits': {r['objective']: r['bits_per_dim'] for r in records},
  }


def _flag(toy: bool) -> list[str]:
  return ['--toy'] if toy else []


def _command(arguments: Sequence[str], platform: str | None = None) -> str:
  """Runs a module; its output. RuntimeError with the last lines where it fails."""
  environment = os.environ | ({'JAX_PLATFORMS': platform} if platform else {})
  done = subprocess.run(
    [sys.executable, '-m', *arguments], env=environment, capture_output=True, text=True, check=False
  )
  if done.returncode:
    said = ' '.join((done.stdout + done.stderr).split())
    raise RuntimeError(f'{arguments[0]} ended with {done.returncode}: {said[-400:]}')
  return done.stdout


def _same(first: str, second: str) -> bool:
  import numpy as np

  return bool(np.array_equal(np.load(first), np.load(second)))


def _milliseconds(function: Callable, arguments: Any, repeats: int = 10) -> float:
  import jax

  seconds = []
  for _ in range(repeats):
    begin = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    seconds.append(time.perf_counter() - begin)
  return 1e3 * statistics.median(seconds)


def _peak(name: str) -> float | None:
  """Peak bfloat16 FLOP/s of a device; None where it is not in the table."""
  return next((peak for part, peak in _PEAKS.items() if part in name), None)


def _product(library: Any) -> float:
  """FLOP/s of a large float32 product, where the maker's peak is not known."""
  return library.matmul_flops(2048)


def _speed(size: Size, run: Callable, seconds: float, peak: float) -> dict[str, Any]:
  from models.config import ModelConfig

  run(seconds / 4)  # warm
  steps, took = run(seconds)
  flops = 3 * size.batch * ModelConfig(**size.model()).forward_flops(('causal',)) / size.tokens
  rate = steps * size.tokens / took
  return {
    'size': size.name,
    'batch': size.batch,
    'tokens_per_second': rate,
    'mfu': rate * flops / peak,
    'peak_flops': peak,
  }


PARTS = {
  'device': device,
  'parity': parity,
  'attention': attention,
  'training': training,
  'codec': codec,
  'probe': probe,
  'compare': compare,
}


def main(argv: Sequence[str]) -> None:
  del argv
  chosen = flags.FLAGS
  if chosen.part == 'bits':
    rows = bits_of_run(chosen.run, os.path.join(chosen.scratch, 'data'))
  elif chosen.part.startswith('train_'):
    size = next(size for size in (_TOY, _MIDDLE, _IGPT_S) if size.name == chosen.size)
    # Dataclass fields by name: the batch alone is another.
    size = Size(size.name, batch=chosen.batch, **size.model())
    step = train_ours if chosen.part == 'train_ours' else train_torch
    rows = step(size, 0.5 if chosen.toy else 8.0)
  else:
    rows = PARTS[chosen.part](chosen.toy, chosen.scratch)
  for row in rows:
    with open(chosen.rows, 'a', encoding='utf-8') as file:
      file.write(json.dumps(row) + '\n')


def define_flags() -> None:
  flags.DEFINE_string('part', None, 'Which.', required=True)
  flags.DEFINE_string('rows', None, 'Where its rows go, one JSON object a line.', required=True)
  flags.DEFINE_string('scratch', None, 'A directory that parts share.', required=True)
  flags.DEFINE_string('run', None, 'bits: of which run.')
  flags.DEFINE_string('size', None, 'train_*: which network.')
  flags.DEFINE_integer('batch', 1, 'train_*: examples a step.')
  flags.DEFINE_bool('toy', False, 'Small sizes.')


if __name__ == '__main__':
  define_flags()
  app.run(main)
