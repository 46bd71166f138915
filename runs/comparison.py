"""A comparison from its plan to its report."""

from collections.abc import Sequence
import os
import shlex

import jax

from reports import report, terminal
from runs import announced, controls, lock, pilots, plan, pool, shares
from training import preemption


def compare(
  path: str,
  objectives: Sequence[str] | None,
  seeds: Sequence[int] | None,
  rates: Sequence[float] | None,
  clips: Sequence[float] | None,
  sizes: Sequence[str] | None,
  overrides: Sequence[str],
  workdir: str,
  data_dir: str,
  *,
  command: str,
  environment: dict[str, str],
  jobs: int | None,
  cache: str | None,
  pilot_seeds: Sequence[int] | None = None,
  kept: pilots.Kept | None = None,
  part: shares.Part | None = None,
) -> int:
  """Runs all that `plan.make` plans, probes the controls, reports; returns the exit code.

  Args:
    path, objectives, seeds, rates, clips, sizes, overrides, workdir, data_dir: as in `plan.make`.
    command: that makes these results again, for the report.
    environment: of the runs.
    jobs: runs at a time; None for what the machine holds.
    cache: directory of compiled programs; None for one in `workdir`.
    pilot_seeds: of runs apart, by which rates and clip norms are chosen; None to choose them by the
      runs themselves.
    kept: pilots of an earlier comparison that chose them; instead of rates, clips and pilot_seeds.
    part: trains no more than this share of the runs (`shares.share`), and says so in the report.
      The controls are probed by the first part.

  Raises:
    UserError: what can't be planned; pilots that are results too, or of which a kind all failed;
      pilots that other parts have; a kind of run for which kept pilots chose nothing.
  """

  apart = pilots.directory(workdir)

  def planned(
    seeds=seeds, overrides=overrides, where=workdir, **more
  ) -> tuple[list[plan.PlannedRun], list[str]]:
    return plan.make(
      path, objectives, seeds, rates, overrides, where, data_dir, sizes=sizes, clips=clips, **more
    )

  # All of it is checked before the first pilot starts.
  first = []
  if kept is not None:
    runs, notes = planned(where=os.path.join(apart, 'none'))  # for what there is to choose
    tuned, asked = kept.tuned(runs), kept.asked(runs)
    rates, clips, pilot_seeds = asked.learning_rates, asked.clip_norms, asked.pilot_seeds
    runs, _ = planned(tuned=tuned)
  else:
    runs, notes = planned()
  if kept is None and pilot_seeds is not None:
    own = pilots.overrides(overrides)
    first, _ = planned(pilot_seeds, own, apart, pilots=True)
    pilots.refuse_results(first, runs)
    pilots.rows_in(workdir)
  mine = shares.share(runs, part)
  own_pilots = shares.share(first, part) if first else []
  with lock.held(workdir):
    if kept is not None:
      kept.write(workdir, runs)
    for note in notes:
      print(note)
    environment = pool.with_cache(environment, cache or os.path.join(workdir, 'compilation_cache'))
    # The controls are probed here, by the programs that the runs have compiled.
    jax.config.update('jax_compilation_cache_dir', environment['JAX_COMPILATION_CACHE_DIR'])
    jax.config.update('jax_persistent_cache_min_compile_time_secs', 0.5)
    failures = []
    grids = {'rates': rates, 'clips': clips, 'pilot_seeds': pilot_seeds}
    said = announced.write(runs, workdir, command=command, notes=notes, **grids)
    if kept is not None:
      announced.choose(said, runs, workdir)
    if first:
      plan.write_manifest(own_pilots, workdir)
      failures += pool.run_all(own_pilots, environment, jobs)
      preemption.check()
      shares.need_pilots(first, part, workdir)
      asked = pilots.Asked(rates, clips, pilot_seeds)
      tuned, told = pilots.choose(first, workdir, asked)
      for note in told:
        print(note)
      runs, _ = planned(tuned=tuned)
      announced.choose(said, runs, workdir)
      mine = shares.share(runs, part)
    plan.write_manifest(mine, workdir)
    failures += pool.run_all(mine, environment, jobs)
    preemption.check()
    if part is None or part[0] == 1:
      controls.write(runs, workdir, data_dir)
    results = report.build(
      [workdir],
      workdir,
      command=command,
      failures=[f.as_row() for f in failures],
      notes=[shares.note(part)] if part else [],
    )
    return show(results, workdir, failures, tensorboard=True)


def show(
  results: dict, workdir: str, failures: Sequence[pool.Failure], tensorboard: bool = False
) -> int:
  """Prints a report's table, where all of it is, and what failed; returns the exit code."""
  print(terminal.terminal_table(results))
  print(f'\nreport      {os.path.join(workdir, "report.html")}')
  if tensorboard:
    print(f'TensorBoard tensorboard --logdir={shlex.quote(workdir)}')
  return pool.tell_failures(failures)
