r"""Our training step beside the same step in plain PyTorch, alternating in one run.

python -m benchmarks.train --out=train.json

Every side is a process of its own: ours (the real objective, optimizer, sharding and donation) on
one and on as many virtual devices as there are cores, and PyTorch's eager step with as many
threads. They take turns, block by block, and are stopped while others run; a ratio is the median
over rounds of tokens per second within one round, so that a machine whose speed drifts does not
decide. 'pair' runs one training a core, single-threaded, all at the same time, and adds their
tokens per second. Both sides keep freed memory (training/host_memory.py).

Model FLOP utilisation is the analytic FLOPs of models/config.py (causal attention counted full)
over --peak_gflops, or without it over the fastest large float32 product that either library made
on the same cores in the same run. Peak memory is the process's own, libraries included. First step:
ours includes compilation.
"""

from collections.abc import Sequence
import json
import os
import statistics
from typing import Any

from absl import app, flags

from benchmarks.sizes import SIZES, Size
from benchmarks.workers import Side, Worker, together
from models.config import ModelConfig

_SIZES = flags.DEFINE_list('sizes', list(SIZES), 'Which trainings.')
_CASES = flags.DEFINE_list('cases', ['alone', 'pair'], 'One training on all cores, one a core.')
_ROUNDS = flags.DEFINE_integer('rounds', 7, 'Rounds of one block a side.', lower_bound=1)
_SECONDS = flags.DEFINE_float('seconds', 3.0, 'Length of a block.', lower_bound=0.1)
_PEAK = flags.DEFINE_float('peak_gflops', 0.0, 'Peak of all cores, GFLOP/s; 0: measured.')
_ADAMW = flags.DEFINE_enum('adamw', 'fused', ['plain', 'foreach', 'fused'], "PyTorch's variant.")
_OUT = flags.DEFINE_string('out', None, 'Where to write everything as JSON.')


def sides(case: str, cores: Sequence[int], adamw: str) -> list[list[Side]]:
  """Groups of processes that run at the same time; the last group is PyTorch's."""
  whole, peer = tuple(cores), (('adamw', adamw),)
  if case == 'alone':
    ours = [len(whole), 1] if len(whole) > 1 else [1]
    return [[Side(f'ours, {n} device{"s"[: n > 1]}', 'ours', n, whole)] for n in ours] + [
      [Side('torch', 'torch', 1, whole, peer)]
    ]
  return [
    [Side('ours', 'ours', 1, (core,)) for core in whole],
    [Side('torch', 'torch', 1, (core,), peer) for core in whole],
  ]


def measure(case: str, size: Size, rounds: int, seconds: float, adamw: str) -> list[dict]:
  """One row a group of processes, PyTorch's last; see `table` for the columns."""
  cores = sorted(os.sched_getaffinity(0))
  groups = [[Worker(side, size) for side in group] for group in sides(case, cores, adamw)]
  rates: list[list[float]] = [[] for _ in groups]
  for turn in range(rounds):
    # Who is first changes, lest the order decide.
    for g in sorted(range(len(groups)), key=lambda g: (g + turn) % len(groups)):
      rates[g].append(together(groups[g], seconds)[1] * size.tokens)
  rows = []
  for group, rate in zip(groups, rates, strict=True):
    ends = [worker.finish() for worker in group]
    rows.append({
      'size': size.name,
      'case': case,
      'side': group[0].side.name,
      'processes': len(group),
      'tokens_per_second': statistics.median(rate),
      'tokens_per_second_by_round': rate,
      'ratios': [mine / peer for mine, peer in zip(rate, rates[-1], strict=True)],
      'first_step_seconds': max(worker.known['first_seconds'] for worker in group),
      'peak_megabytes': max(end['peak_megabytes'] for end in ends),
      # Those of a group ended one after the other: each had its cores to itself.
      'matmul_flops': sum(end['matmul_flops'] for end in ends),
      'known': [worker.known for worker in group],
    })  # fmt: skip
  return rows


def add_utilisation(rows: Sequence[dict[str, Any]], size: Size, peak_gflops: float) -> None:
  """Adds 'ratio' and 'mfu', and which peak that is a fraction of."""
  flops = 3 * ModelConfig(**size.model()).forward_flops(size.batch) / size.tokens
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
    f'{"MB":>6} {"first step s":>13}'
  ]
  for row in rows:
    low, high = min(row['ratios']), max(row['ratios'])
    lines.append(
      f'{row["size"]:6} {row["case"]:6} {row["side"]:16} {row["tokens_per_second"]:10,.0f} '
      f'{row["ratio"]:6.2f} {low:6.2f}-{high:<6.2f} {row["mfu"]:6.1%} '
      f'{row["peak_megabytes"]:6.0f} {row["first_step_seconds"]:13.2f}'
    )
  return '\n'.join(lines)


def main(argv: Sequence[str]) -> None:
  if len(argv) > 1:
    raise app.UsageError(f"'{argv[1]}' is not a flag")
  for flag, known in ((_SIZES, SIZES), (_CASES, ('alone', 'pair'))):
    for name in flag.value:
      if name not in known:
        raise app.UsageError(f"--{flag.name}: unknown '{name}'; known: {', '.join(known)}")
  rows: list[dict[str, Any]] = []
  for name in _SIZES.value:
    for case in _CASES.value:
      found = measure(case, SIZES[name], _ROUNDS.value, _SECONDS.value, _ADAMW.value)
      add_utilisation(found, SIZES[name], _PEAK.value)
      rows += found
      print(table(found) + f'\nMFU of {found[0]["peak_gflops"]:.0f} GFLOP/s, '
            f'{found[0]["peak_from"]}', flush=True)  # fmt: skip
  if _OUT.value:
    settings = {f.name: f.value for f in (_ROUNDS, _SECONDS, _ADAMW, _PEAK)}
    with open(_OUT.value, 'w', encoding='utf-8') as file:
      json.dump({'settings': settings, 'rows': rows}, file, indent=1)
      file.write('\n')
  print('\n' + table(rows))


if __name__ == '__main__':
  app.run(main)
