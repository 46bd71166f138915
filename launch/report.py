"""Rebuilds the report from finished runs.

  python -m launch.report [--out=DIR] DIR [DIR...]

Each DIR is a run, a comparison, or a directory above them. Writes results.json, results.csv,
report.html and report/*.png to --out (the directory itself where only one is named) and prints the
table.
"""

from collections.abc import Iterable, Mapping, Sequence
import io
import json
import os
import pathlib
import sys
import textwrap

from absl import flags

from launch import figures, page
from launch import results as results_lib
from launch.errors import UserError

_WIDTH = 100


def build(
  dirs: Sequence[str | os.PathLike],
  out: str | os.PathLike,
  *,
  command: str | None = None,
  failures: Iterable[Mapping] = (),
) -> dict:
  """Reads every run below `dirs` and writes the report to `out`.

  Args:
    dirs: run directories, comparison directories, or directories above them.
    out: where results.json, results.csv, report.html and report/ go; made if need be.
    command: the command that makes these results again, printed on the page.
    failures: {'name', 'log', 'reason'} for each run that failed.

  Returns:
    The content of results.json.

  Raises:
    UserError: nothing to report, data that do not belong in one table, or `out` not writable.
  """
  results = results_lib.assemble(results_lib.find(dirs), command=command, failures=failures)
  curves = {
    run['workdir']: results_lib.read_curve(run['workdir'], only=('validation/', 'probe/'))
    for run in results['runs']
    if run['selected']
  }
  pictures = {}
  for name, picture in figures.draw_all(results, curves).items():
    buffer = io.BytesIO()
    picture.savefig(buffer, format='png', metadata={'Software': None})
    pictures[name] = buffer.getvalue()
  try:
    _write(pathlib.Path(out), results, pictures)
  except OSError as error:
    raise UserError(f'the report cannot be written to {out}: {error.strerror}') from error
  return results


def _write(out: pathlib.Path, results: Mapping, pictures: Mapping[str, bytes]) -> None:
  (out / 'report').mkdir(parents=True, exist_ok=True)
  _replace(out / 'results.json', json.dumps(results, indent=1, allow_nan=False).encode() + b'\n')
  rows = results_lib.tidy_rows(results['runs'], results['controls'])
  results_lib.write_csv(rows, out / 'results.csv.part')
  os.replace(out / 'results.csv.part', out / 'results.csv')
  for name in figures.NAMES:
    if name in pictures:
      _replace(out / 'report' / f'{name}.png', pictures[name])
    else:
      (out / 'report' / f'{name}.png').unlink(missing_ok=True)  # of an earlier report
  _replace(out / 'report.html', page.render(results, pictures).encode())


def _replace(path: pathlib.Path, content: bytes) -> None:
  """Writes a file whole or not at all."""
  part = path.with_name(path.name + '.part')
  part.write_bytes(content)
  os.replace(part, path)


# The terminal's table.


def terminal_table(results: Mapping) -> str:
  """The result table as plain text, at most 100 columns wide."""
  raw = results['controls'].get('raw') or {}
  pairs = [pair for pair in results_lib.probe_counts(results['runs'], raw) if pair[0] == 'linear']
  head = ['objective', 'code', 'bits/dim', *(labels for _, labels in pairs), 'seeds']
  rows = [row for label, entry in zip(page.names(results), results['summary'], strict=True)
          for row in _entry_rows(label, entry, pairs)]  # fmt: skip
  if raw:
    values = [(raw.get(p) or {}).get(n, {}).get('accuracy') for p, n in pairs]
    rows.append(['raw input', '', '', *map(page.percent_text, values), ''])
  for name, label in (('histogram', 'per-pixel histogram'), ('uniform', 'uniform')):
    bits = results['controls'].get(f'{name}_bits_per_dim')
    if bits is not None:
      rows.append([label, 'exact', f'{bits:.3f}', *[''] * len(pairs), ''])
  return '\n'.join([_title(results), '', *_aligned([head, *rows]), '', *_foot(results)])


def _entry_rows(label: str, entry: Mapping, pairs: Sequence[tuple[str, str]]) -> list[list[str]]:
  bits = page.bits_text(entry['bits_per_dim'], entry['code'])
  if entry['bits_stderr'] is not None:
    bits += f' ±{entry["bits_stderr"]:.3f}'
  first = [label, page.code_text(entry['code']), bits]
  under = ['  interval' if entry['seeds'] >= results_lib.MINIMUM_SEEDS else '  range', '']
  under.append(page.spread_text(entry, 'bits_per_dim', 'bits', 1, 3))
  for probe, labels in pairs:
    name = f'{probe}_{labels}'
    star = '*' if entry.get('saw_labels') and labels != 'all' else ''
    first.append(page.percent_text(entry.get(name)) + star)
    under.append(page.spread_text(entry, name, name, 100, 1))
  return [[*first, str(entry['seeds'])], *([[*under, '']] if any(under[2:]) else [])]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
  """Columns two apart, the first two to the left; the first is shortened if need be."""
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  gap = 2 if sum(widths) + 2 * (len(widths) - 1) <= _WIDTH else 1
  widths[0] = max(8, min(widths[0], _WIDTH - sum(widths[1:]) - gap * (len(widths) - 1)))
  lines = []
  for row in rows:
    first = row[0] if len(row[0]) <= widths[0] else row[0][: widths[0] - 1] + '…'
    cells = [first.ljust(widths[0]), row[1].ljust(widths[1])]
    cells += [cell.rjust(width) for cell, width in zip(row[2:], widths[2:], strict=True)]
    lines.append((' ' * gap).join(cells).rstrip())
  return [lines[0], '-' * max(map(len, lines)), *lines[1:]]


def _title(results: Mapping) -> str:
  primary = results['primary']
  return _wrapped(
    f'{results["dataset"]}, {results["dims"]} dimensions of {results["alphabet"]} values; '
    f'{page.tuning_text(results)}; linear probe, test accuracy in % by number of labels (primary: '
    f'{primary["labels"]})'
  )


def _wrapped(text: str) -> str:
  return '\n'.join(textwrap.wrap(text, _WIDTH, subsequent_indent='  ', break_on_hyphens=False))


def _foot(results: Mapping) -> list[str]:
  lines, summary = [], results['summary']
  if any(entry['code'] == 'upper_bound' for entry in summary):
    lines.append('≤: an upper bound, not comparable with an exact code. n/a: no likelihood.')
  for label, entry in zip(page.names(results), summary, strict=True):
    if entry.get('no_context_learned'):
      lines.append(f'{label}: no context learned (within 0.05 bits of the per-pixel histogram).')
    if entry.get('masked_cross_entropy_bits') is not None:
      histogram = entry.get('masked_cross_entropy_histogram_bits')
      beside = '' if histogram is None else f', per-pixel histogram {histogram:.3f}'
      bits = entry['masked_cross_entropy_bits']
      lines.append(f'{label}: {bits:.3f} bits a masked token{beside}.')
  if any(entry.get('saw_labels') for entry in summary):
    lines.append('*: saw all labels.')
  if results['verdicts']:
    lines += page.verdict_lines(results)
  else:
    lines.append(f'No verdicts: fewer than {results_lib.MINIMUM_SEEDS} common seeds.')
  lines += results['notes']
  for state in ('failures', 'unfinished'):
    word = 'failed' if state == 'failures' else 'unfinished'
    lines += [f'{word}: {run["name"]} ({run.get("reason") or "unknown"}), log {run.get("log")}'
              for run in results[state]]  # fmt: skip
  return [_wrapped(line) for line in lines]


# The program.


def define_flags() -> None:
  """Only for this program: launch.compare imports this module and has flags of its own."""
  flags.DEFINE_string('out', None, 'Where the report goes; default: the one directory named.')
  flags.DEFINE_multi_string('dirs', [], 'Directories to read, beside the positional ones.')


def main(argv: Sequence[str]) -> None:
  """Builds the report and prints its table."""
  dirs = [*argv[1:], *flags.FLAGS.dirs]
  if not dirs:
    raise UserError('name at least one run or comparison directory')
  if flags.FLAGS.out is None and len(dirs) > 1:
    raise UserError('several directories: say with --out=DIR where the report goes')
  out = flags.FLAGS.out or dirs[0]
  results = build(dirs, out)
  if hasattr(sys.stdout, 'reconfigure'):
    sys.stdout.reconfigure(errors='replace')  # a terminal without ≤ still gets its table
  print(terminal_table(results))
  print(f'\n{pathlib.Path(out) / "report.html"}')


if __name__ == '__main__':
  define_flags()
  from launch import entry

  entry.run(main)
