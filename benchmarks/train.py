r"""Our training step beside the same step in plain PyTorch, alternating in one run.

python -m benchmarks.train --out=train.json   # after pip install -e '.[parity]'

Every side is a process of its own: ours (the real objective, optimizer, sharding and donation, with
layers written out, as few layers are on a CPU by default) on one and on as many virtual devices as
there are cores, and PyTorch's eager step with as many threads. They take turns, block by block, and
are stopped while others run; a ratio is the median over rounds of tokens per second within one
round, so that a machine whose speed drifts does not decide. 'pair' runs one training a core,
single-threaded, all at the same time, and adds their tokens per second. Both sides keep freed
memory (training/host_memory.py).

Model FLOP utilisation is the analytic FLOPs of models/config.py (attention at its pattern's share)
over --peak_gflops, or without it over the fastest large float32 product that either library made
on the same cores in the same run. Peak memory is the process's own, libraries included. First step:
ours includes compilation. Others: how many cores the rest of the machine used during the blocks;
with more than a few hundredths of one the run says little, least of all on two threads.
"""

from collections.abc import Sequence
import importlib.util
import json
import os
import statistics
from typing import Any

from absl import app, flags

from benchmarks.sizes import SIZES, Size
from benchmarks.workers import Worker, sides, together
from models.config import ModelConfig

_SETTINGS = ('rounds', 'seconds', 'adamw', 'peak_gflops')


def measure(case: str, size: Size, rounds: int, seconds: float, adamw: str) -> list[dict]:
  """One row a group of processes, PyTorch's last; see `table` for the columns."""
  cores = sorted(os.sched_getaffinity(0))
  groups = [[Worker(side, size) for side in group] for group in sides(case, cores, adamw)]
  rates: list[list[float]] = [[] for _ in groups]
  others: list[list[float]] = [[] for _ in groups]
  for turn in range(rounds):
    # Who is first changes, lest the order decide.
    for g in sorted(range(len(groups)), key=lambda g: (g + turn) % len(groups)):
      rate, foreign = together(groups[g], seconds)
      rates[g].append(rate * size.tokens)
      others[g].append(foreign)
  rows = []
  for group, rate, foreign in zip(groups, rates, others, strict=True):
    ends = [worker.finish() for worker in group]
    rows.append({
      'size': size.name,
      'case': case,
      'side': group[0].side.name,
      'processes': len(group),
      'tokens_per_second': statistics.median(rate),
      'tokens_per_second_by_round': rate,
      'ratios': [mine / peer for mine, peer in zip(rate, rates[-1], strict=True)],
      'others_by_round': foreign,
      'first_step_seconds': max(worker.known['first_seconds'] for worker in group),
      'peak_megabytes': max(end['peak_megabytes'] for end in ends),
      # Those of a group ended one after the other: each had its cores to itself.
      'matmul_flops': sum(end['matmul_flops'] for end in ends),
      'known': [worker.known for worker in group],
    })  # fmt: skip
  return rows


def add_utilisation(rows: Sequence[dict[str, Any]], size: Size, peak_gflops: float) -> None:
  """Adds 'ratio' and 'mfu', and which peak that is a fraction of."""
  flops = 3 * size.batch * ModelConfig(**size.model()).forward_flops(('causal',)) / size.tokens
  fastest = max(rows, key=lambda row: row['matmul_flops'])
  peak = 1e9 * peak_gflops or fastest['matmul_flops']
  for row in rows:
    row['ratio'] = statistics.median(row['ratios'])
    row['flops_per_token'] = flops
    row['mfu'] = row['tokens_per_second'] * flops / peak
    row['peak_gflops'] = peak / 1e9
    row['peak_from'] = '--peak_gflops' if peak_gflops else f'product by {fastest["side"]}'


def table(rows: Sequence[dict[str, Any]]) -> str:
  """The rows for people; ratios are ours over PyTorch, the median round and its range."""
  lines = [
    f'{"size":6} {"case":6} {"side":16} {"tokens/s":>10} {"ratio":>6} {"range":>13} {"MFU":>6} '
    f'{"MB":>6} {"first step s":>13} {"others":>6}'
  ]
  for row in rows:
    low, high = min(row['ratios']), max(row['ratios'])
    lines.append(
      f'{row["size"]:6} {row["case"]:6} {row["side"]:16} {row["tokens_per_second"]:10,.0f} '
      f'{row["ratio"]:6.2f} {low:6.2f}-{high:<6.2f} {row["mfu"]:6.1%} '
      f'{row["peak_megabytes"]:6.0f} {row["first_step_seconds"]:13.2f} '
      f'{max(row["others_by_round"]):6.2f}'
    )
  return '\n'.join(lines)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"'{argv[1]}' is not a flag")
  for flag, known in (('sizes', SIZES), ('cases', ('alone', 'pair'))):
    for name in flags.FLAGS[flag].value:
      if name not in known:
        raise app.UsageError(f"--{flag.name}: unknown '{name}'; known: {', '.join(known)}")
  if importlib.util.find_spec('torch') is None:
    raise app.UsageError("PyTorch is not installed: pip install -e '.[parity]'")
  rows: list[dict[str, Any]] = []
  for name in flags.FLAGS.sizes:
    for case in flags.FLAGS.cases:
      found = measure(case, SIZES[name], flags.FLAGS.rounds, flags.FLAGS.seconds, flags.FLAGS.adamw)
      add_utilisation(found, SIZES[name], flags.FLAGS.peak_gflops)
      rows += found
      print(table(found) + f'\nMFU of {found[0]["peak_gflops"]:.0f} GFLOP/s, '
            f'{found[0]["peak_from"]}', flush=True)  # fmt: skip
  if flags.FLAGS.out:
    settings = {name: flags.FLAGS[name].value for name in _SETTINGS}
    with open(flags.FLAGS.out, 'w', encoding='utf-8') as file:
      json.dump({'settings': settings, 'rows': rows}, file, indent=1)
      file.write('\n')
  print('\n' + table(rows))


def define_flags() -> None:
  flags.DEFINE_list('sizes', list(SIZES), 'Which trainings.')
  flags.DEFINE_list('cases', ['alone', 'pair'], 'One training on all cores, one a core.')
  flags.DEFINE_integer('rounds', 7, 'Rounds of one block a side.', lower_bound=1)
  flags.DEFINE_float('seconds', 3.0, 'Length of a block.', lower_bound=0.1)
  flags.DEFINE_float('peak_gflops', 0.0, 'Peak of all cores, GFLOP/s; 0: measured.')
  flags.DEFINE_enum('adamw', 'fused', ['plain', 'foreach', 'fused'], "PyTorch's variant.")
  flags.DEFINE_string('out', None, 'Where to write everything as JSON.')


if __name__ == '__main__':
  define_flags()
  app.run(main)
