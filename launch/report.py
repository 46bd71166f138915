"""Rebuilds the report from finished runs.

  python -m launch.report [--out=DIR] DIR [DIR...]
  python -m launch.report [--markdown] results.json

Each DIR is a run, a comparison, or a directory above them. Writes results.json, results.csv,
report.html and report/*.png to --out (the directory itself where only one is named) and prints the
table. With --by=optimizer.weight_decay, say, runs that differ in that field stand beside each other
instead of being refused. Of a results.json alone, such as a kept one, it prints the table and
writes nothing; --markdown prints the tables as Markdown, as a README shows them.

  python -m launch.report --records=OUT DIR

copies what reports read of one comparison, some hundred kilobytes a run: to keep it, or to go on
with it on another machine.
"""

from collections.abc import Sequence
import pathlib

from absl import flags

from launch import entry
from runs.errors import UserError


def define_flags() -> None:
  flags.DEFINE_string('out', None, 'Where the report goes; default: the one directory named.')
  flags.DEFINE_list(
    'by', [], 'Config fields whose values stand apart, such as optimizer.weight_decay.'
  )
  flags.DEFINE_string('records', None, 'Copy the records of one comparison to this directory.')
  flags.DEFINE_bool('markdown', False, 'Print Markdown.')
  flags.DEFINE_multi_string('dirs', [], 'Directories to read, beside the positional ones.')


def main(argv: Sequence[str]) -> None:
  """Builds the report and prints its table."""
  from reports import markdown, records, report, terminal

  show = markdown.text if flags.FLAGS.markdown else terminal.terminal_table
  dirs = [*argv[1:], *flags.FLAGS.dirs]
  if not dirs:
    raise UserError('name at least one run or comparison directory')
  if flags.FLAGS.records is not None:
    if len(dirs) > 1 or flags.FLAGS.out or flags.FLAGS.by or flags.FLAGS.markdown:
      raise UserError('--records is of one directory, without --out, --by and --markdown')
    count, notes = records.keep(dirs[0], flags.FLAGS.records)
    print(*notes, f'records of {count} finished runs in {flags.FLAGS.records}', sep='\n')
    return
  if any(pathlib.Path(name).is_file() for name in dirs):
    if len(dirs) > 1 or flags.FLAGS.out or flags.FLAGS.by:
      raise UserError(f'{dirs[0]}: a results.json is shown alone, without --out and --by')
    print(show(report.read(dirs[0])))
    return
  if flags.FLAGS.out is None and len(dirs) > 1:
    raise UserError('several directories: say with --out=DIR where the report goes')
  out = flags.FLAGS.out or dirs[0]
  results = report.build(dirs, out, by=flags.FLAGS.by)
  print(show(results))
  print(f'\n{pathlib.Path(out) / "report.html"}')


if __name__ == '__main__':
  define_flags()
  entry.run(main)
