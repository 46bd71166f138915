r"""Regret of representations on the labels, above the best of all learners tried.

python -m launch.label_regret DIR... [--out=FILE.json]

Each DIR is a run, a comparison, or a directory above them; only finished records are read
(`reports.label_regret`). Where the law of the source is known, so is what a perfect learner pays,
and the regret is no bound.
"""

from collections.abc import Sequence

from absl import flags

from launch import entry, output
from runs.errors import UserError


def define_flags() -> None:
  flags.DEFINE_string('out', None, 'JSON with everything that is printed.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')


def main(argv: Sequence[str]) -> None:
  """Prints a table for each set of labels."""
  if not argv[1:]:
    raise UserError('name at least one run or comparison directory')
  from reports import choice, finding, label_regret, terminal
  from runs import label_truth

  found = finding.find(argv[1:])
  if not found.runs:
    raise UserError(f'no finished run in {", ".join(argv[1:])}')
  made = label_regret.tables(found)
  if not made['sets']:
    reasons = made['notes'] or ['launch.probe makes them (prequential), and launch.finetune']
    raise UserError('; '.join(['no run has a code of labels that can be compared', *reasons]))
  output.check(flags.FLAGS.out)
  made['notes'] = [*found.notes, *choice.select(found.runs, found.begun), *made['notes']]
  for table in made['sets']:
    if table['knows_truth'] and (line := label_truth.add_truth(table, flags.FLAGS.data_dir)):
      made['notes'].append(line)
  output.write(flags.FLAGS.out, made)
  print('\n\n'.join(terminal.label_regret_lines(made)))


if __name__ == '__main__':
  define_flags()
  entry.run(main)
