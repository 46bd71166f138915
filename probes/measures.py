"""How a probe's numbers are named and read, so that every table and log shows them alike."""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Measure:
  """One headline number of a probe.

  Attributes:
    name: as in TensorBoard and results.csv, such as 'knn/accuracy'.
    path: where it is in `record['probes']`, such as ('knn', 'all', 'accuracy').
    title: the head of its column.
    unit: 'fraction' (shown in percent), 'points' (a difference of fractions), 'bits', 'ratio' or
      'dimensions'.
    meaning: one sentence for the report.
    layers: path of its curve over layers (one value a layer), () for none.
    beside: path of a number of the same unit that is only printed beside it, such as the measured
      error beside a bound; its last part names it.
    flag: path of a boolean whose last part is printed where it is true, such as 'vacuous'.
    stderr: path of its standard error over test examples.
    spread: path of its standard deviation over coding orders, of a code whose labels were sent in
      several; no digit below it is printed. None there means that it is of one order.
    labels: path of the number of labels that it is from, where tables must have the same.
  """

  name: str
  path: tuple[str, ...]
  title: str
  unit: str
  meaning: str
  layers: tuple[str, ...] = ()
  beside: tuple[str, ...] = ()
  flag: tuple[str, ...] = ()
  stderr: tuple[str, ...] = ()
  spread: tuple[str, ...] = ()
  labels: tuple[str, ...] = ()


def at(found: Mapping[str, Any] | None, path: Sequence[str]) -> Any:
  """What nested dicts hold at a path; None where any part of it is absent."""
  for name in path:
    found = found.get(name) if isinstance(found, Mapping) else None
  return found


# Training labels, at most, of the small probe that runs during training.
QUICK_LABELS = 250
_TUNED = 'Test accuracy after fine-tuning the whole network on {}; learning rate and early stop {}.'


def _pooled(pooling: str, meaning: str) -> Measure:
  return Measure(
    name=f'pooling/{pooling}/accuracy',
    path=('pooling', 'all', pooling, 'accuracy'),
    title=f'linear, {pooling}',
    unit='fraction',
    meaning=meaning,
    layers=('pooling', 'all', pooling, 'by_layer_validation'),
  )


# The headline numbers of every probe of `probes.suite.PROBES`, in its order.
MEASURES: dict[str, tuple[Measure, ...]] = {
  'linear': (
    Measure(
      name='linear/usable_bits',
      path=('linear', 'all', 'usable_bits'),
      title='linear, usable',
      unit='bits',
      meaning='Bits about the label that the linear probe reads on test, at the layer and penalty '
      'of the lowest validation cross-entropy, the featureless guess among them (log2 of the '
      'classes is all there is). ± is the standard error over test examples.',
      layers=('linear', 'all', 'usable_bits_by_layer_validation'),
      stderr=('linear', 'all', 'usable_bits_stderr'),
    ),
  ),
  'ridge': (
    Measure(
      name='ridge/accuracy',
      path=('ridge', 'all', 'accuracy'),
      title='ridge',
      unit='fraction',
      meaning='Test accuracy of ridge regression on one-hot labels (the largest output wins), with '
      'all training labels; layer and penalty are chosen on validation.',
      layers=('ridge', 'all', 'by_layer_validation'),
    ),
  ),
  'knn': (
    Measure(
      name='knn/accuracy',
      path=('knn', 'all', 'accuracy'),
      title='kNN, centred',
      unit='fraction',
      meaning='Test accuracy of nearest neighbours by cosine similarity of features less the mean '
      'of those with labels, with all training labels; layer and number of neighbours are chosen '
      'on validation.',
      layers=('knn', 'all', 'by_layer_validation'),
    ),
    Measure(
      name='knn/accuracy_100',
      path=('knn', '100', 'accuracy'),
      title='kNN, centred, 100 labels',
      unit='fraction',
      meaning='Test accuracy of the same with 100 labels, mean over draws; layer and '
      'number of neighbours are chosen by leaving one of the 100 out.',
      layers=('knn', '100', 'by_layer_cv'),
    ),
  ),
  'mlp': (
    Measure(
      name='mlp/accuracy',
      path=('mlp', 'all', 'accuracy'),
      title='MLP',
      unit='fraction',
      meaning='Test accuracy of a network with one hidden layer, with all training labels; layer, '
      'start, weight decay and training length have the best validation accuracy, as the linear '
      "probe's layer and penalty.",
      layers=('mlp', 'all', 'by_layer_validation'),
    ),
    Measure(
      name='mlp/usable_bits',
      path=('mlp', 'all', 'usable_bits'),
      title='MLP, usable',
      unit='bits',
      meaning='Bits about the label that the MLP probe reads on test, at the layer and fit of the '
      'lowest validation cross-entropy, the featureless guess among them: another choice than that '
      'of its accuracy. ± is the standard error over test examples.',
      layers=('mlp', 'all', 'usable_bits_by_layer_validation'),
      stderr=('mlp', 'all', 'usable_bits_stderr'),
    ),
  ),
  'prequential': (
    Measure(
      name='prequential/linear_bits',
      path=('prequential', 'all', 'linear_bits'),
      title='label code, linear',
      unit='bits',
      meaning='Length of the train labels given the features, coded block by block with linear '
      'probes fitted to the labels before; the choice of layer and penalty is paid for. Mean and '
      'standard deviation over orders of the labels.',
      layers=('prequential', 'all', 'linear_bits_by_layer'),
      beside=('prequential', 'all', 'uniform_bits'),
      spread=('prequential', 'all', 'linear_bits_spread'),
    ),
    Measure(
      name='prequential/mlp_bits',
      path=('prequential', 'all', 'mlp_bits'),
      title='label code, MLP',
      unit='bits',
      meaning='The same with networks of one hidden layer beside the linear probes, in the first '
      'of those orders.',
      layers=('prequential', 'all', 'mlp_bits_by_layer'),
      beside=('prequential', 'all', 'uniform_bits'),
      spread=('prequential', 'all', 'mlp_bits_spread'),
    ),
  ),
  'pooling': (
    _pooled('last', 'Test accuracy of the linear probe on the last position, all labels.'),
    _pooled(
      'concatenated', 'Test accuracy of the linear probe on mean and last position side by side.'
    ),
  ),
  'attentive': (
    Measure(
      name='attentive/accuracy',
      path=('attentive', 'all', 'accuracy'),
      title='attentive',
      unit='fraction',
      meaning='Test accuracy of learned queries over the tokens and a linear classifier, all '
      'labels; layer, weight decay and training length have the best validation accuracy.',
      layers=('attentive', 'all', 'by_layer_validation'),
    ),
  ),
  'control_task': (
    Measure(
      name='control_task/selectivity',
      path=('control_task', 'all', 'selectivity'),
      title='selectivity',
      unit='points',
      meaning='Test accuracy of the linear probe less that on random labels of input clusters, '
      'each at the layer that its own validation chose.',
      layers=('control_task', 'all', 'selectivity_by_layer_validation'),
    ),
  ),
  'geometry': (
    Measure(
      name='geometry/rankme',
      path=('geometry', 'all', 'rankme'),
      title='RankMe',
      unit='dimensions',
      meaning='Effective rank of the features of the layer where it is highest: how many '
      'dimensions they fill, not what they hold. It describes a representation and cannot rank '
      'objectives.',
      layers=('geometry', 'all', 'rankme_by_layer'),
    ),
  ),
  'pac': (
    Measure(
      name='pac/bound',
      path=('pac', 'all', 'bound'),
      title='certified error ≤',
      unit='fraction',
      meaning='Bound on the error of a linear probe with weights of a few bits, from labels that '
      'no pretraining of the table saw; it fails with probability at most delta. What these labels '
      'chose beside the probe (learning rates, checkpoints) is paid for.',
      layers=('pac', 'all', 'by_layer_bound'),
      beside=('pac', 'all', 'error'),
      flag=('pac', 'all', 'vacuous'),
      labels=('pac', 'all', 'n'),
    ),
  ),
  'finetune': (
    Measure(
      name='finetune/10_labels',
      path=('finetune', '10', 'accuracy'),
      title='fine-tuned, 10 labels',
      unit='fraction',
      meaning=_TUNED.format('10 labels', 'were declared beforehand'),
    ),
    Measure(
      name='finetune/100_labels',
      path=('finetune', '100', 'accuracy'),
      title='fine-tuned, 100 labels',
      unit='fraction',
      meaning=_TUNED.format('100 labels', 'by cross-validation inside them'),
    ),
    Measure(
      name='finetune/accuracy',
      path=('finetune', 'all', 'accuracy'),
      title='fine-tuned, all labels',
      unit='fraction',
      meaning=_TUNED.format(
        'all training labels', 'on validation, within a declared number of steps'
      ),
    ),
    Measure(
      name='finetune/code_bits',
      path=('finetune', 'all', 'code', 'bits'),
      title='label code, fine-tuned',
      unit='bits',
      meaning='Length of train labels given the inputs, coded block by block with networks '
      'fine-tuned on the labels before; learning rate and early stop are paid for.',
      beside=('finetune', 'all', 'code', 'uniform'),
      spread=('finetune', 'all', 'code', 'spread'),
    ),
  ),
}

# What follows from several probes.
LINEAR_SHARE = Measure(
  name='linear_share',
  path=('mlp', 'all', 'linear_share'),
  title='linear share',
  unit='ratio',
  meaning='Usable information of the linear probe over that of the MLP probe, both in bits on '
  'test, each at the layer that validation cross-entropy chose: how much of what can be read is '
  'linear. ± is the standard error over test examples, which both share; above 1 is chance or a '
  'poorer choice of the MLP.',
  flag=('mlp', 'all', 'above_1'),
  stderr=('mlp', 'all', 'linear_share_stderr'),
)


def headline() -> tuple[Measure, ...]:
  """The headline numbers of all probes, in the order of the table."""
  return (*(measure for own in MEASURES.values() for measure in own), LINEAR_SHARE)
