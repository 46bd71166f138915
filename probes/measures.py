"""How a probe's numbers are named and read, so that every table and log shows them alike."""

from collections.abc import Mapping, Sequence
import dataclasses
import itertools
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
    beside: paths of numbers of the same unit that are only printed beside it, such as the measured
      error beside a bound; their last parts name them.
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
  beside: tuple[tuple[str, ...], ...] = ()
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


def _measure(
  name: str, path: str, title: str, unit: str, meaning: str, layers: str = '', **more: str
) -> Measure:
  """A measure by dotted paths: the rest of `layers` and of all others in its cell.

  Those in `beside` have spaces between them.
  """
  place, others = tuple(path.split('.')), {'layers': layers, **more}
  beside = tuple((*place[:2], *rest.split('.')) for rest in others.pop('beside', '').split())
  cell = {key: (*place[:2], *rest.split('.')) for key, rest in others.items() if rest}
  return Measure(name, place, title, unit, meaning, **cell, beside=beside)


# The headline numbers of every probe of `probes.suite.PROBES`, in its order.
# fmt: off
_ALL = (
  _measure('linear/usable_bits', 'linear.all.usable_bits', 'linear, usable', 'bits',
           'Bits about the label that the linear probe reads on test, at the layer and penalty of'
           ' the lowest validation cross-entropy, the featureless guess among them (log2 of the '
           'classes is all there is). ± is the standard error over test examples.',
           'usable_bits_by_layer_validation', stderr='usable_bits_stderr'),
  _measure('ridge/accuracy', 'ridge.all.accuracy', 'ridge', 'fraction',
           'Test accuracy of ridge regression on one-hot labels (the largest output wins), with '
           'all training labels; layer and penalty are chosen on validation.',
           'by_layer_validation'),
  _measure('knn/accuracy', 'knn.all.accuracy', 'kNN, centred', 'fraction',
           'Test accuracy of nearest neighbours by cosine similarity of features less the mean of'
           ' those with labels, with all training labels; layer and number of neighbours are '
           'chosen on validation.',
           'by_layer_validation'),
  _measure('knn/accuracy_100', 'knn.100.accuracy', 'kNN, centred, 100 labels', 'fraction',
           'Test accuracy of the same with 100 labels, mean over draws; layer and number of '
           'neighbours are chosen by leaving one of the 100 out.',
           'by_layer_cv'),
  _measure('mlp/accuracy', 'mlp.all.accuracy', 'MLP', 'fraction',
           'Test accuracy of a network with one hidden layer, with all training labels; layer, '
           'start, weight decay and training length have the best validation accuracy, as the '
           "linear probe's layer and penalty.",
           'by_layer_validation'),
  _measure('mlp/usable_bits', 'mlp.all.usable_bits', 'MLP, usable', 'bits',
           'Bits about the label that the MLP probe reads on test, at the layer and fit of the '
           'lowest validation cross-entropy, the featureless guess among them: another choice '
           'than that of its accuracy. ± is the standard error over test examples.',
           'usable_bits_by_layer_validation', stderr='usable_bits_stderr'),
  _measure('prequential/linear_bits', 'prequential.all.linear_bits', 'label code, linear', 'bits',
           'Length of the train labels given the features, coded block by block with linear '
           'probes fitted to the labels before; the choice of layer and penalty is paid for. Mean'
           ' and standard deviation over orders of the labels. Majority: of the classes alone.',
           'linear_bits_by_layer', beside='uniform_bits majority_bits',
           spread='linear_bits_spread', labels='labels'),
  _measure('prequential/mlp_bits', 'prequential.all.mlp_bits', 'label code, MLP', 'bits',
           'The same with networks of one hidden layer beside the linear probes, in the first of '
           'those orders.',
           'mlp_bits_by_layer', beside='uniform_bits majority_bits', spread='mlp_bits_spread',
           labels='labels'),
  _measure('pooling/last/accuracy', 'pooling.all.last.accuracy', 'linear, last', 'fraction',
           'Test accuracy of the linear probe on the last position, all labels.',
           'last.by_layer_validation'),
  _measure('pooling/concatenated/accuracy', 'pooling.all.concatenated.accuracy',
           'linear, concatenated', 'fraction',
           'Test accuracy of the linear probe on mean and last position side by side.',
           'concatenated.by_layer_validation'),
  _measure('attentive/accuracy', 'attentive.all.accuracy', 'attentive', 'fraction',
           'Test accuracy of learned queries over the tokens and a linear classifier, of n labels, '
           'the same for all seeds; layer, weight decay and training length have the best '
           'validation accuracy.',
           'by_layer_validation', labels='rows'),
  _measure('control_task/selectivity', 'control_task.all.selectivity', 'selectivity', 'points',
           'Test accuracy of the linear probe less that on random labels of input clusters, each '
           'at the layer that its own validation chose.',
           'selectivity_by_layer_validation'),
  _measure('geometry/rankme', 'geometry.all.rankme', 'RankMe', 'dimensions',
           'Effective rank of the features of the layer where it is highest: how many dimensions '
           'they fill, not what they hold. It describes a representation and cannot rank '
           'objectives.',
           'rankme_by_layer'),
  _measure('pac/bound', 'pac.all.bound', 'certified error ≤', 'fraction',
           'Bound on the error of a linear probe with weights of a few bits, from labels that no '
           'pretraining of the table saw; it fails with probability at most delta. What these '
           'labels chose beside the probe (learning rates, checkpoints) is paid for.',
           'by_layer_bound', beside='error', flag='vacuous', labels='n'),
  _measure('finetune/10_labels', 'finetune.10.accuracy', 'fine-tuned, 10 labels', 'fraction',
           'Test accuracy after fine-tuning the whole network on 10 labels; learning rate and '
           'early stop were declared beforehand.'),
  _measure('finetune/100_labels', 'finetune.100.accuracy', 'fine-tuned, 100 labels', 'fraction',
           'Test accuracy after fine-tuning the whole network on 100 labels; learning rate and '
           'early stop by cross-validation inside them.'),
  _measure('finetune/accuracy', 'finetune.all.accuracy', 'fine-tuned, all labels', 'fraction',
           'Test accuracy after fine-tuning the whole network on all training labels; learning '
           'rate and early stop on validation, within a declared number of steps.'),
  _measure('finetune/code_bits', 'finetune.all.code.bits', 'label code, fine-tuned', 'bits',
           'Length of train labels given the inputs, coded block by block with networks fine-'
           'tuned on the labels before; learning rate and early stop are paid for. Mean and '
           'standard deviation over orders of the labels.',
           beside='code.uniform code.majority', spread='code.spread'),
)
# What follows from several probes.
LINEAR_SHARE = _measure('linear_share', 'mlp.all.linear_share', 'linear share', 'ratio',
           'Usable information of the linear probe over that of the MLP probe, both in bits on '
           'test, each at the layer that validation cross-entropy chose: how much of what can be '
           'read is linear. ± is the standard error over test examples, which both share; above 1'
           ' is chance or a poorer choice of the MLP.',
           flag='above_1', stderr='linear_share_stderr')
# fmt: on
MEASURES = {
  probe: tuple(own) for probe, own in itertools.groupby(_ALL, lambda measure: measure.path[0])
}


def headline() -> tuple[Measure, ...]:
  """The headline numbers of all probes, in the order of the table."""
  return (*_ALL, LINEAR_SHARE)
