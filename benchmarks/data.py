r"""What a large data set costs a run: memory, the time until it trains, the share of its input.

python -m benchmarks.data --examples=200000 --side=64 --override=model.remat=True

Makes up colour images (or, with --text, a file of as many bytes), has `launch.train` make five
steps on 2,000 of them, then on all of them twice: the first start makes and keeps the tokens, the
second finds them. Peak memory is ru_maxrss of the process, which counts mapped pages; seconds are
from its start until its first step is written down, compilation included.
"""

from collections.abc import Sequence
import json
import os
import subprocess
import sys
import tempfile
import time

from absl import app, flags
import numpy as np

from data import kept

_FEW = 2000
_HELD_OUT = 8
_SETTINGS = (
  'training.steps=5', 'training.log_every=1', 'optimizer.warmup_steps=1', 'evaluation.samples=0',
  'evaluation.draws=1', 'evaluation.batch_size=8', 'checkpoints.every=0',
  *(f'evaluators.{name}.every=0' for name in ('validation', 'probe', 'label_code', 'samples')),
)  # fmt: skip


def make_images(folder: str, count: int, side: int) -> None:
  """Noise, in a directory of .npy files, some at a time.

  Nothing is mapped: what this process has resident when it starts another counts as that one's.
  """
  os.makedirs(folder)
  rng = np.random.default_rng(0)
  sizes = [min(_FEW, count - first) for first in range(0, count, _FEW)]
  chunks = (rng.integers(0, 256, (size, side, side, 3), np.uint8) for size in sizes)
  with open(os.path.join(folder, 'images.npy'), 'wb') as file:
    kept.write_rows(file, chunks, count)


def make_text(path: str, size: int) -> None:
  rng = np.random.default_rng(0)
  with open(path, 'wb') as file:
    for first in range(0, size, 2**24):
      file.write(rng.bytes(min(2**24, size - first)))


def train(workdir: str, data_dir: str, arguments: Sequence[str]) -> dict[str, float]:
  """One run as users start it; what it took."""
  command = [
    sys.executable, '-m', 'launch.train', f'--workdir={workdir}', f'--data_dir={data_dir}',
    *(f'--config.{setting}' for setting in _SETTINGS), *arguments,
  ]  # fmt: skip
  start, first = time.monotonic(), None
  process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
  curve = os.path.join(workdir, 'metrics.jsonl')
  while True:
    pid, status, usage = os.wait4(process.pid, os.WNOHANG)
    if first is None and os.path.exists(curve) and os.path.getsize(curve):
      first = time.monotonic() - start
    if pid:
      break
    time.sleep(0.05)
  if status:
    raise SystemExit(f'a run failed: {" ".join(command)}')
  with open(curve, encoding='utf-8') as file:
    rows = [json.loads(line) for line in file]
  fractions = [row['input_fraction'] for row in rows if 'input_fraction' in row]
  return {
    'peak_mb': usage.ru_maxrss / 1024,
    'first_step_seconds': first,
    'input_fraction': float(np.mean(fractions[1:])),
  }


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"'{argv[1]}' is not a flag")
  examples, side, text = (flags.FLAGS[name].value for name in ('examples', 'side', 'text'))
  config = 'experiments/text_file.py' if text else 'experiments/arrays.py'
  config += ':autoregressive'
  rows = {}
  with tempfile.TemporaryDirectory(dir=flags.FLAGS.directory) as top:
    for name, count in (('few', _FEW), ('many', examples)):
      path = os.path.join(top, name)
      size = count * side * side * 3
      make_text(path, size) if text else make_images(path, count, side)
      held_out = {'test': _HELD_OUT, 'validation': _HELD_OUT}
      if text:
        held_out = {split: n / (size // 256) for split, n in held_out.items()}
      arguments = [f'--config={config}', f'--config.data.path={path}']
      arguments += [f'--config.data.{split}={n}' for split, n in held_out.items()]
      arguments += [f'--config.{setting}' for setting in flags.FLAGS.override]
      for start in ('first', 'second')[: 1 + (name == 'many')]:
        row = train(os.path.join(top, f'{name}_{start}'), os.path.join(top, 'data'), arguments)
        rows[f'{name}, {start} start'] = row
        print(f'{name} ({count:,}), {start} start: {json.dumps(row)}', flush=True)
  if flags.FLAGS.out:
    with open(flags.FLAGS.out, 'w', encoding='utf-8') as file:
      json.dump(rows, file, indent=1)


def define_flags() -> None:
  flags.DEFINE_integer('examples', 200_000, 'Images of the large set.', lower_bound=2 * _FEW)
  flags.DEFINE_integer('side', 64, 'Pixels a side.', lower_bound=1)
  flags.DEFINE_bool('text', False, 'A file of as many bytes instead of images.')
  flags.DEFINE_multi_string('override', [], 'FIELD=VALUE of the config, may be repeated.')
  flags.DEFINE_string('directory', None, 'Where to put the made-up data; default: as TMPDIR.')
  flags.DEFINE_string('out', None, 'Where to write the rows as JSON.')


if __name__ == '__main__':
  define_flags()
  app.run(main)
