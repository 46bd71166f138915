"""The statements of the theory, one line each: number -> (name, title).

A claim that is written has a file of that name beside this one; the others are here alone.
"""

STATEMENTS: dict[int, tuple[str, str]] = {
  1: ('finite_class', 'Finite precision makes the class finite: a bound needs no VC dimension'),
  2: ('few_freedoms', 'Fewer degrees of freedom than examples: test error follows train error'),
  3: ('other_objective', 'One objective is optimised, another one is cared about'),
  4: ('noise_control', 'Trained on the uniform distribution, everything fails'),
  5: ('cipher', 'Find F with F(X) ~ Y: unsupervised, yet guaranteed'),
  6: ('joint_cipher', 'A good joint compressor finds F by itself'),
  7: ('predictor_is_compressor', 'A predictor is a compressor'),
  8: ('shared_structure', 'C(XY) is at most C(X) + C(Y), and the gap is shared structure'),
  9: ('low_regret', 'Low regret: the unlabelled data helped as much as it can'),
  10: ('program_counts', 'K(X) is at most the compressed file and its program'),
  11: ('larger_is_nearer', 'Larger networks come nearer to the ideal compressor'),
  12: ('joint_or_conditional', 'Compressing the concatenation is as good as conditioning'),
  13: ('likelihood_plus_parameters', 'Joint compression is maximum likelihood plus the parameters'),
  14: ('own_size', "On a large test set the compressor's own size no longer matters"),
  15: ('single_epoch', 'In a single epoch the code paid in training is like the validation loss'),
  16: ('last_bits', 'gzip + kNN shows the idea and its limit: what matters are the last bits'),
  17: ('curves_fall_together', 'A better predictor has a better probe, and sizes fall together'),
  18: ('middle_layer', 'The best layer is in the middle'),
  19: ('more_linear', "Autoregressive features are more linear than BERT's"),
  20: ('hardest_task', "Because BERT's hardest prediction is easier"),
  21: ('diffusion_linear', 'Likelihood diffusion is less linear than autoregression'),
  22: ('simple_diffusion', "Image generators' diffusion does not maximise likelihood"),
  23: ('finetuning', 'Fine-tuning works for every good compressor, linearity is a bonus'),
  24: ('diffusion_compute', 'Diffusion needs 10 to 15 times more compute for the same'),
  25: ('energy', 'Energy-based models are likelihood models: a difference is a ratio'),
  26: ('data_order', 'Data order matters for SGD, the less the easier the network trains'),
  27: ('universal', 'A universal Transformer is as good, given compute'),
  28: ('recurrent_state', 'A small recurrent state is a bottleneck, a large one is not'),
  29: ('simulated', 'A new architecture that the old can simulate brings little'),
  30: ('few_shot', 'Few-shot behaviour follows from text that repeats'),
  31: ('fit_not_condition', 'Conditioning on a data set is not possible yet, fitting it is'),
  32: ('retellings', 'About 500 varied retellings imprint an instruction'),
  33: ('shared_form', 'What carries over is the shared form'),
}


def title(number: int) -> str:
  return STATEMENTS[number][1]
