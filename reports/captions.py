"""Title and caption of every picture of the report, by file name without ending."""

from probes.measures import QUICK_LABELS

_CHECKPOINTS = (
  'Every point is a checkpoint along one learning-rate schedule, so not a converged model; the '
  'large one is the last. Step 0, before any update, is left out. Means over runs at equal steps, '
  'thin lines are the runs; larger points and darker lines are larger models. The accuracy is that '
  f'of the quick probe on validation: linear, fitted on at most {QUICK_LABELS} labels (one a '
  'class, where classes are more), best layer, one penalty.'
)

CAPTIONS = {
  'bits_against_accuracy': (
    'Bits against the probe',
    'One marker a run. Filled: exact code. Open with an arrow: an upper bound, the code is at '
    'most this long. Objectives without a likelihood stand apart; they have no place on the axis '
    'of bits. Where objectives are many, numbers stand for them, at one of their markers.',
  ),
  'label_codes': (
    'Bits against codes of the labels',
    'One panel an objective and learner. A point is a checkpoint: bits per dimension on '
    'validation, and the length of the train labels’ prequential code given its features, in the '
    'first order of the labels. Lines '
    'join the checkpoints of a run in the order of training, the large one is the last; step 0 is '
    'left out. Filled: exact code; open: upper bound (≤), which is never put into one panel with '
    'an exact code. Fewer bits lie to the left and below: the theory says that points rise to the '
    'right. Bits and label codes both tend to fall with training, so a line that rises shows no '
    'more than that; runs are what is independent.',
  ),
  'scaling': (
    'Scaling: the probe against bits, during training',
    'One panel an objective, one line a size, as in figure 3 of ImageGPT (Chen et al. 2020). The '
    'horizontal axis is reversed: fewer bits lie to the right, so a line that rises to the right '
    'says that better compression went with a more linear representation. '
    f'{_CHECKPOINTS} Heights compare between panels. Horizontal positions do not: exact bits, '
    'upper bounds (≤) and losses of objectives without a likelihood are different quantities, and '
    'every panel has an axis of its own.',
  ),
  'scaling_by_tokens': (
    'Scaling: the probe against tokens predicted, during training',
    'As above, against the share of predictions on validation whose most probable token is the '
    f'right one. {_CHECKPOINTS} Which tokens are predicted, and from what, differs between '
    'objectives: horizontal positions do not compare between panels.',
  ),
  'regret_curves': (
    'Regret during training',
    'Bits per dimension above the true entropy on validation, against training tokens (left) and '
    'analytic training FLOPs (right), both axes logarithmic. Means over runs, bands are ranges; '
    'what is not above zero has no place on these axes. ≤: regret of a bound.',
  ),
  'regret_by_size': (
    'Regret by size',
    'Regret on test after training, against parameters of the backbone. Means over runs, vertical '
    'lines are ranges.',
  ),
  'regret_by_hidden': (
    'Regret by what is hidden',
    'Regret of the views with that many hidden tokens; its mean is the regret of the bound. '
    'Means over runs. Dashed: weights of another objective scored by the bound.',
  ),
  'latents': (
    'Every latent by layer',
    'Linear probe of every latent of the source, accuracy on validation in percent, means over the '
    'latents of a level and over runs. Rows run from the root to the level above the tokens, '
    'columns from the embeddings (0) to the last layer; raw is the input itself. Chance is the '
    'share of the commonest value.',
  ),
  'samples': (
    'Samples',
    'Examples that the models drew, the first ones and not a choice, beside real ones once these '
    'are kept. Objectives without a likelihood draw none.',
  ),
  'accuracy_by_level': (
    'Accuracy by noise level',
    'Linear probe on all labels, accuracy on validation, with the input at a noise level or mask '
    'ratio; features are averaged over draws of the noise. The best of these levels and the clean '
    'input is chosen here, on validation, and only that one is read on test. Bands are ranges.',
  ),
  'accuracy_by_layer': (
    'Accuracy by layer',
    'Linear probe on all labels, accuracy on the validation split, which also chooses the layer. '
    'Lines are means over runs, bands reach from the lowest to the highest.',
  ),
  'accuracy_by_labels': (
    'Accuracy by number of labels',
    'Test accuracy with balanced subsets of labels; layer and penalty come from inside the '
    'subset. Means over draws and runs, bands from the lowest to the highest.',
  ),
  'loss_against_labels': (
    'Loss against labels',
    'What the next labels cost while the labels are coded one block after another (the '
    'prequential code, choice of layer and penalty paid for). Bits a label times the labels of a '
    'block, summed over blocks, is the code length; the axis is logarithmic, and the first block, '
    'coded uniformly, is left out. Means over runs, bands are ranges; dashed: uniform.',
  ),
  'similarity': (
    'Similarity of representations',
    'Debiased linear CKA between the layers (from the embeddings on) of one run of every '
    'objective, on test examples. It says how alike two representations are, not which is better, '
    'and cannot rank objectives.',
  ),
  'training_curves': (
    'Training',
    'On the validation split, against updates (left) and analytic training FLOPs (right). The '
    'same number of updates is not the same compute. Means over runs, bands are ranges.',
  ),
  'accuracy_during_training': (
    'The probe during training',
    'Validation accuracy of a small linear probe fitted while training goes on, to show the '
    'course; the table holds the full probe of the last checkpoint.',
  ),
}
