r"""Features of every layer of a Hugging Face checkpoint on disk, for launch.probe --features.

python -m launch.extract --model=DIR --kind=vision --data=FILE.npz --out=FEATURES.npz
python -m launch.extract --model=DIR --kind=text --data=FILE.tsv --out=FEATURES.npz
python -m launch.extract --model=DIR --kind=image_gpt --data=FILE.npz --out=FEATURES.npz

`runs/extracting.py` describes the data, `probes/exchange.py` the features. Needs pip install
'.[hf]'; nothing is downloaded.
"""

from collections.abc import Sequence

from absl import flags

from launch import entry
from runs.errors import UserError


def main(argv: Sequence[str]) -> None:
  entry.no_arguments(argv)
  chosen = flags.FLAGS
  for name in ('model', 'kind', 'data', 'out'):
    if chosen[name].value is None:
      raise UserError(f'--{name} is needed')
  if not chosen.out.endswith('.npz'):
    raise UserError(f'--out={chosen.out} must be named .npz')
  if chosen.most_tokens is not None and chosen.kind != 'text':
    raise UserError('--most_tokens cuts texts: it needs --kind=text')
  from runs import extracting

  lines = extracting.extract(
    chosen.model,
    chosen.kind,
    chosen.data,
    chosen.out,
    chosen.batch_size,
    chosen.sequences,
    chosen.most_tokens,
    chosen.seed,
  )
  print('\n'.join(lines))
  print(f'python -m launch.probe --features={chosen.out} probes them')


def define_flags() -> None:
  flags.DEFINE_string('model', None, 'Directory of the checkpoint, with config.json and weights.')
  flags.DEFINE_enum('kind', None, ['vision', 'text', 'image_gpt'], 'What the checkpoint reads.')
  flags.DEFINE_string('data', None, 'Examples with their labels: .npz, or for texts .tsv or .csv.')
  flags.DEFINE_string('out', None, 'The .npz to write.')
  flags.DEFINE_integer('batch_size', 32, 'Examples at a time.', lower_bound=1)
  flags.DEFINE_boolean('sequences', False, 'Write features before pooling, for attentive probes.')
  flags.DEFINE_integer('most_tokens', None, 'Cut texts to so many tokens.', lower_bound=1)
  flags.DEFINE_integer('seed', 0, 'Of the splits, where the data have none.', lower_bound=0)


if __name__ == '__main__':
  define_flags()
  entry.run(main)
