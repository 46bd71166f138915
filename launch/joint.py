r"""Bits of the labels Y: from scratch, given a representation of X, and by one model of X and Y.

python -m launch.joint --workdir=RUN[,RUN...] --others=DIR

RUN is a finished autoregressive run; several differ in their seeds, are paired by them and have an
interval from five on. Four prequential codes of the same labels, in the same order and blocks
(`reports.label_sets`):

(a) from scratch: an untrained backbone, fine-tuned on the labels so far (from --others);
(b) the frozen backbone: linear and MLP probes (RUN's record);
(c) the backbone pretrained on X, then fine-tuned (RUN's record, by launch.finetune);
(d) one network of RUN's shape, trained on X as RUN was and then on X and Y as sequences of an image
    in RUN's order and its label, made here (`codes.joint`).
"""

from collections.abc import Sequence

from absl import flags

from launch import entry, output
from runs.errors import UserError


def main(argv: Sequence[str]) -> None:
  entry.no_arguments(argv)
  chosen = flags.FLAGS
  if not chosen.workdir:
    raise UserError('--workdir=DIR (a finished autoregressive run) is needed')
  if chosen.updates < 1 or (chosen.steps is not None and chosen.steps < 0):
    raise UserError('--updates must be at least 1 and --steps not negative')
  output.check(chosen.out)
  weights = entry.numbers('label_weights', chosen.label_weights, float)
  if min(weights) <= 0:
    raise UserError(f'--label_weights must be above 0, not {min(weights):g}')
  from reports import codes_text
  from runs import joint
  from training import preemption

  preemption.end_at_once()
  made = joint.compare(
    chosen.workdir, chosen.others, chosen.data_dir, weights, chosen.steps, chosen.updates
  )
  print(codes_text.joint(made))
  output.write(chosen.out, made)


def define_flags() -> None:
  flags.DEFINE_list('workdir', [], 'Finished autoregressive runs of different seeds.')
  flags.DEFINE_list('others', [], 'Where codes to compare with are: an untrained run, fine-tuned.')
  flags.DEFINE_string('data_dir', '~/tensorflow_datasets', 'Prepared data sets.')
  flags.DEFINE_list('label_weights', ['1', '8', '64'], "Of the label's cross-entropy.")
  flags.DEFINE_integer('steps', None, "On images alone; default: the run's.")
  flags.DEFINE_integer('updates', 100, 'Before every block of labels.')
  flags.DEFINE_string('out', None, 'Write the result here, as JSON.')


if __name__ == '__main__':
  define_flags()
  entry.run(main)
