r"""A whole comparison beside the same job in plain PyTorch and scikit-learn, in one run.

python -m benchmarks.end_to_end --out=end_to_end.json   # after pip install -e '.[parity]'

The job: digits, one Transformer (nano) under next-token prediction, BERT, masked diffusion and not
trained at all; validation loss along the training, bits on test, the mean features of every layer,
and on them the linear probe (all labels and four numbers of few labels, layer and penalty chosen
inside them), ridge and kNN. Ours is `launch.compare` as anyone starts it, but for the probes that
it leaves out; the peer is benchmarks/peer_job.py, which does nothing more: no TensorBoard, no
checkpoints, no certificates, no report, scikit-learn at its default tolerance. Both run one
training a core, with everything that a fresh process costs.
"""

from collections.abc import Sequence
import glob
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

from absl import app, flags

OBJECTIVES = ('autoregressive', 'masked', 'masked_diffusion', 'untrained')


def settings(steps: int) -> list[str]:
  """Of ours: what the peer does, and the rest of it off."""
  return [
    f'--objectives={",".join(OBJECTIVES)}',
    f'--config.training.steps={steps}',
    "--config.probe.suite=('linear','ridge','knn')",
    '--config.probe.levels=False',
    '--config.evaluation.samples=0',
    '--config.evaluators.samples.every=0',
    '--config.evaluators.probe.every=0',
    '--config.evaluators.label_code.every=0',
  ]


def timed(command: Sequence[str], cores: set[int]) -> dict[str, float]:
  """Seconds of a command, and of all cores under it; RuntimeError if it fails."""
  before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
  done = subprocess.run(
    command, capture_output=True, text=True, check=False,
    preexec_fn=lambda: os.sched_setaffinity(0, cores),
  )  # fmt: skip
  seconds, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
  if done.returncode:
    raise RuntimeError(f'{" ".join(command[:4])} failed: {(done.stdout + done.stderr)[-800:]}')
  used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
  return {'seconds': seconds, 'core_seconds': used}


def ours(top: str, number: int, seeds: str, steps: int, cores: set[int]) -> dict[str, Any]:
  """One comparison by launch.compare, in a new directory."""
  workdir = os.path.join(top, f'ours{number}')
  command = [sys.executable, '-m', 'launch.compare', '--config=experiments/digits.py']
  command += [f'--workdir={workdir}', f'--data_dir={top}/data', f'--seeds={seeds}']
  row = timed([*command, *settings(steps)], cores)
  found = {}
  for path in sorted(glob.glob(os.path.join(workdir, 'runs', '*', 'run.json'))):
    with open(path, encoding='utf-8') as file:
      record = json.load(file)
    linear = record['probes']['linear']
    found[f'{record["objective"]}-{record["seed"]}'] = {
      'bits': record['bits_per_dim'],
      'linear_all': linear['all']['accuracy'],
      'linear_100': linear['100']['accuracy'],
    }
  return row | {'results': found}


def peer(top: str, number: int, seeds: str, steps: int, cores: set[int]) -> dict[str, Any]:
  """The same by the plain script."""
  out = os.path.join(top, f'peer{number}.json')
  command = [sys.executable, '-m', 'benchmarks.peer_job', f'--out={out}', f'--data={top}/data.npz']
  command += [f'--seeds={seeds}', f'--steps={steps}', f'--jobs={len(cores)}']
  row = timed(command, cores)
  with open(out, encoding='utf-8') as file:
    return row | {'results': json.load(file)}


def export(top: str) -> None:
  """The splits of digits as the peer reads them."""
  import ml_collections
  import numpy as np

  from data import sources

  dataset = sources.load(ml_collections.ConfigDict({'name': 'digits'}), f'{top}/data')
  arrays = {}
  for split in ('train', 'validation', 'test'):
    examples = getattr(dataset, split)
    arrays[f'{split}_x'] = np.asarray(examples.tokens_NxT)
    arrays[f'{split}_y'] = np.asarray(examples.labels_N)
  np.savez(f'{top}/data.npz', **arrays)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"'{argv[1]}' is not a flag")
  if importlib.util.find_spec('torch') is None:
    raise app.UsageError("PyTorch is not installed: pip install -e '.[parity]'")
  cores, rows = set(sorted(os.sched_getaffinity(0))[: flags.FLAGS.cores]), []
  with tempfile.TemporaryDirectory() as top:
    export(top)
    for number in range(flags.FLAGS.rounds):
      # Who is first changes, lest the order decide.
      for side in (ours, peer) if number % 2 == 0 else (peer, ours):
        found = side(top, number, flags.FLAGS.seeds, flags.FLAGS.steps, cores)
        rows.append({'side': side.__name__, 'round': number, **found})
        print(f'{side.__name__:5} round {number}: {found["seconds"]:.0f} s, '
              f'{found["core_seconds"] / 60:.1f} core-minutes', flush=True)  # fmt: skip
  seconds = {
    side: [row['seconds'] for row in rows if row['side'] == side] for side in ('ours', 'peer')
  }
  ratios = [theirs / mine for mine, theirs in zip(seconds['ours'], seconds['peer'], strict=True)]
  print(f'peer / ours: {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})')
  if flags.FLAGS.out:
    with open(flags.FLAGS.out, 'w', encoding='utf-8') as file:
      json.dump({'ratios': ratios, 'rows': rows}, file, indent=1)
      file.write('\n')


def define_flags() -> None:
  flags.DEFINE_string('seeds', '0,1', 'Pretraining seeds.')
  flags.DEFINE_integer('steps', 800, 'Updates of a training.', lower_bound=1)
  flags.DEFINE_integer('rounds', 1, 'Times each side does the job.', lower_bound=1)
  flags.DEFINE_integer('cores', 2, 'Cores that each side gets.', lower_bound=1)
  flags.DEFINE_string('out', None, 'Where to write everything as JSON.')


if __name__ == '__main__':
  define_flags()
  app.run(main)
