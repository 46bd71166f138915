"""The trainings that benchmarks measure, and how a measuring process is told of one."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Size:
  """One training: the shape of its network and of its batches."""

  name: str
  vocabulary: int
  length: int
  width: int
  layers: int
  heads: int
  batch: int

  @property
  def tokens(self) -> int:
    """Tokens a step."""
    return self.batch * self.length

  def model(self) -> dict[str, int]:
    """What `models.config.ModelConfig` wants to know."""
    names = ('vocabulary', 'length', 'width', 'layers', 'heads')
    return {name: getattr(self, name) for name in names}


# Vocabularies are those of digits, of Fashion-MNIST's grey levels and of ImageGPT's palette.
SIZES = {
  size.name: size
  for size in (
    Size('nano', 17, 64, 64, 4, 4, 64),
    Size('micro', 16, 196, 128, 6, 4, 32),
    Size('small', 512, 1024, 256, 8, 8, 4),
  )
}

# Both sides: clipping never rests on chance, and the schedule is evaluated in every step.
OPTIMIZER = {
  'learning_rate': 1e-3,
  'warmup_steps': 50,
  'end_fraction': 0.0,
  'beta1': 0.9,
  'beta2': 0.95,
  'weight_decay': 0.01,
  'clip_norm': 1.0,
}
STEPS = 100_000
