r"""What one accelerator does, beside the CPU of the same machine and beside PyTorch; ten minutes.

python -m benchmarks.accelerator --out=accelerator.json
JAX_PLATFORMS=cpu python -m benchmarks.accelerator --toy --out=toy.json   # to its end, anywhere

Every part is a process of its own with a share of the time, in the order of PARTS: what fails or
takes too long costs itself alone, and what it had measured by then is kept. Every part needs only
what is said of it, and the file holds whatever was found whenever the command ends.

  parity     loss curves of one training here and on the CPU, and the bits of its checkpoint by both
  attention  the fused kernel beside the plain one in float32: values, gradients, NaN
  training   tokens a second, model FLOP utilisation and memory in bfloat16, beside torch.compile
             with its fused attention where PyTorch is there
  codec      a file encoded by one process and decoded by ten others
  probe      the linear probe's fit
  compare    a comparison on digits, as `make compare` does it, with one seed
"""

from collections.abc import Sequence
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import app, flags

from runs import pool

# Share of the time that a part may take at most, of what is left when it starts.
PARTS = {
  'parity': 0.35,
  'attention': 0.35,
  'training': 0.6,
  'codec': 0.5,
  'probe': 0.5,
  'compare': 1.0,
}


def run_part(name: str, limit: float, scratch: str, toy: bool) -> dict[str, Any]:
  """Rows of one part, its seconds, and why it ended early (None if it did not)."""
  out = os.path.join(scratch, f'{name}.jsonl')
  command = [sys.executable, '-m', 'benchmarks.accelerator_parts', f'--part={name}']
  command += [f'--rows={out}', f'--scratch={scratch}', *(['--toy'] if toy else [])]
  # PyTorch, and processes side by side, need memory too.
  environment = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false', **os.environ}
  environment = pool.with_cache(environment, os.path.join(scratch, 'compiled'))
  begin, failed = time.perf_counter(), None
  with open(os.path.join(scratch, f'{name}.log'), 'w+', encoding='utf-8') as log:
    # A group of its own: what a part starts must end with it.
    process = subprocess.Popen(
      command, stdout=log, stderr=subprocess.STDOUT, env=environment, process_group=0
    )
    try:
      code = process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
      failed = f'over its {limit:.0f} s'
    else:
      if code:
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()]
        failed = f'exit code {code}: {lines[-1][:500] if lines else "no output"}'
    finally:  # Also where this command is stopped: a part would go on and keep the device.
      if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
  path = pathlib.Path(out)
  lines = path.read_text(encoding='utf-8').splitlines() if path.exists() else []
  return {
    'rows': [json.loads(line) for line in lines],
    'seconds': time.perf_counter() - begin,
    'failed': failed,
  }


def text_of(name: str, found: dict[str, Any]) -> str:
  """A part for people."""
  lines = [
    f'{name}: {found["seconds"]:.0f} s' + (f', {found["failed"]}' if found['failed'] else '')
  ]
  for row in found['rows']:
    cells = (
      f'{key}={value:.4g}' if isinstance(value, float) else f'{key}={value}'
      for key, value in row.items()
      if not isinstance(value, list | dict)
    )
    lines.append('  ' + '  '.join(cells))
  return '\n'.join(lines)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"'{argv[1]}' is not a flag")
  wanted = flags.FLAGS.parts
  unknown = set(wanted) - set(PARTS)
  if unknown:
    raise app.UsageError(f'--parts: unknown {min(unknown)}; known: {", ".join(PARTS)}')
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
  end = time.perf_counter() + 60 * flags.FLAGS.minutes
  found: dict[str, Any] = {'toy': flags.FLAGS.toy, 'parts': {}}
  with tempfile.TemporaryDirectory() as scratch:
    # 'device' first: it says what all others are of.
    for name in ('device', *(name for name in PARTS if name in wanted)):
      left = end - time.perf_counter()
      if left < 1:
        found['parts'][name] = {'rows': [], 'seconds': 0.0, 'failed': 'no time was left'}
      else:
        limit = left * PARTS.get(name, 0.5)
        found['parts'][name] = run_part(name, limit, scratch, flags.FLAGS.toy)
      print(text_of(name, found['parts'][name]), flush=True)
      with open(flags.FLAGS.out, 'w', encoding='utf-8') as file:
        json.dump(found, file, indent=1)
        file.write('\n')
  failed = [name for name, part in found['parts'].items() if part['failed']]
  if failed:
    print(f'not finished: {", ".join(failed)}', file=sys.stderr)
    sys.exit(1)


def define_flags() -> None:
  flags.DEFINE_string('out', 'accelerator.json', 'Where to write everything as JSON.')
  flags.DEFINE_float('minutes', 9.0, 'For all parts together.', lower_bound=0.1)
  flags.DEFINE_list('parts', list(PARTS), 'Which.')
  flags.DEFINE_bool('toy', False, 'Sizes that a CPU does in a minute, to see that all of it runs.')


if __name__ == '__main__':
  define_flags()
  app.run(main)
