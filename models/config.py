"""Sizes and switches of the backbone."""

import dataclasses

from models import patterns

_CHOICES = {
  'compute_dtype': ('float32', 'bfloat16'),
  'remat_policy': ('full', 'dots'),
  'attention': ('xla', 'cudnn', 'tpu'),
  'mixer': ('attention', 'recurrent'),
  'norm': ('pre', 'none', 'post'),
}
# Numbers that a recurrent layer may carry from token to token.
_STATES = (8, 4096)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Everything that decides the backbone's parameters and its arithmetic.

  Attributes:
    vocabulary: V, the number of token values. The input table has one row more, MASK.
    length: T, tokens a sequence.
    width: D.
    layers: L.
    heads: H; D must be a multiple of H.
    mlp_ratio: hidden width of the MLP in units of D.
    time_input: adds one D x D projection of a scalar noise level.
    token_init: standard deviation of the token table at initialisation (the input scale).
    position_init: the same for the position table.
    norm_epsilon: added to the mean square in the RMS norm.
    compute_dtype: 'float32' or 'bfloat16'; parameters, softmax and log-likelihoods stay float32.
    remat: recompute each block in the backward pass instead of keeping its activations.
    remat_policy: what remat keeps nevertheless: 'full' recomputes all of a block, 'dots' keeps the
      products with weights and recomputes attention and whatever is elementwise.
    attention: 'xla', or a fused kernel: 'cudnn' on GPU, 'tpu' on TPU; see models/kernels.py.
    alphabets: how many values the token of each slot may take, where fewer than V: the logits of
      the others are -1e30.
    unroll: write the layers out one after the other instead of looping over them. On CPU a loop
      copies every activation into an array over all layers and out again, a quarter of a small
      step and more; accelerators hide that. Rounding differs.
    shared_layers: the layers are one block with one set of weights, used L times (the universal
      Transformer of Dehghani et al. 2019, arXiv 1807.03819, without halting).
    mixer: what mixes tokens, 'attention' or 'recurrent' (layers.Recurrence), for causal objectives.
    state: S, the numbers that a recurrent layer carries; 0 with attention.
    residual: False leaves the skip connections out.
    norm: 'pre' normalises what a branch reads, 'post' what comes of adding it (Vaswani et al.
      2017), 'none' nothing; the final norm is of 'pre' alone.
    dropout: in training, the share of the numbers that are zero after the embedding and in what
      each branch brings, the rest being scaled up; none inside attention.
  """

  vocabulary: int
  length: int
  width: int = 64
  layers: int = 4
  heads: int = 4
  mlp_ratio: int = 4
  time_input: bool = False
  token_init: float = 0.02
  position_init: float = 0.01
  norm_epsilon: float = 1e-5
  compute_dtype: str = 'float32'
  remat: bool = False
  remat_policy: str = 'full'
  attention: str = 'xla'
  unroll: bool = False
  alphabets: tuple[int, ...] | None = None
  shared_layers: bool = False
  mixer: str = 'attention'
  state: int = 0
  residual: bool = True
  norm: str = 'pre'
  dropout: float = 0.0

  def __post_init__(self):
    if self.alphabets is not None:
      object.__setattr__(self, 'alphabets', tuple(self.alphabets))  # JSON knows lists alone.
      if len(self.alphabets) != self.length or not (
        1 <= min(self.alphabets) and max(self.alphabets) <= self.vocabulary
      ):
        raise ValueError(f'{self.length} alphabets of 1..{self.vocabulary} values are needed')
    for name in ('vocabulary', 'length', 'width', 'layers', 'heads', 'mlp_ratio'):
      if getattr(self, name) < 1:
        raise ValueError(f'model.{name} must be at least 1, not {getattr(self, name)}')
    if self.width % self.heads:
      raise ValueError(f'model.width {self.width} is not a multiple of model.heads {self.heads}')
    if self.unroll and self.remat:
      raise ValueError(
        "model.remat needs model.unroll 'never': XLA merges what is computed again with what was "
        'computed before where layers are written out, and nothing is saved'
      )
    for name, known in _CHOICES.items():
      if getattr(self, name) not in known:
        allowed = ', '.join(f"'{choice}'" for choice in known)
        raise ValueError(f"model.{name} must be one of {allowed}, not '{getattr(self, name)}'")
    head = self.width // self.heads
    if self.attention == 'cudnn' and (self.compute_dtype != 'bfloat16' or head % 8 or head > 128):
      raise ValueError(
        "model.attention 'cudnn' needs model.compute_dtype 'bfloat16' and heads whose width is a "
        f'multiple of 8 up to 128, not {self.compute_dtype} and {head}'
      )
    if not 0 <= self.dropout < 1:
      raise ValueError(f'model.dropout must be from 0 to below 1, not {self.dropout}')
    self._check_mixer()

  def _check_mixer(self) -> None:
    low, high = _STATES
    if self.mixer == 'attention' and self.state:
      raise ValueError(f"model.state {self.state} does nothing without model.mixer 'recurrent'")
    if self.mixer == 'recurrent' and not low <= self.state <= high:
      raise ValueError(
        f"model.mixer 'recurrent' needs model.state from {low} to {high}, not {self.state}"
      )
    if self.mixer == 'recurrent' and self.attention != 'xla':
      raise ValueError(f"model.attention '{self.attention}' does nothing in a recurrent backbone")

  def check_pattern(self, pattern: patterns.Full | tuple) -> None:
    """Raises ValueError, in one line, unless the mixer can be asked for this pattern."""
    pattern = patterns.of(pattern)
    if self.mixer == 'recurrent' and pattern != patterns.Causal():
      raise ValueError(
        "model.mixer 'recurrent' carries a state through all of the past and sees nothing else: it "
        f"can't stand in for {pattern}"
      )

  @property
  def mask_token(self) -> int:
    """The id of MASK: the last row of the input table, which no output can name."""
    return self.vocabulary

  @property
  def stacked_layers(self) -> int:
    """How many layers have weights of their own."""
    return 1 if self.shared_layers else self.layers

  def matmul_parameters(self) -> int:
    """Parameters that multiply every token: blocks and output head, not the lookup tables.

    Each counts as often as it is used: shared layers L times.
    """
    mixer = 4 * self.width * (self.state if self.mixer == 'recurrent' else self.width)
    block = mixer + 2 * self.mlp_ratio * self.width**2
    return self.layers * block + self.width * self.vocabulary

  def forward_flops(
    self,
    pattern: patterns.Full | tuple = ('full',),
    tokens: int | None = None,
    soft_inputs: bool = False,
    logits: bool = True,
  ) -> float:
    """Analytic FLOPs of one forward pass over a sequence of `tokens`, by default `length`.

    2 N_matmul T for the weights, 2 (V+1) D T for the table where inputs are soft tokens (ids only
    look it up), 2 D V T less where nobody reads the `logits`, and the pattern's share of 4 L T^2 D
    for the two attention products: what is asked for. A program that masks a full product computes
    more, a fused kernel hardly. A training step costs three times this: 6 N_matmul T + 12 L T^2 D
    share. A recurrent layer has 2 T S in place of the two products: one multiplication and one
    addition for each number of the state.
    """
    tokens = self.length if tokens is None else tokens
    unread = 0 if logits else self.width * self.vocabulary
    weights = 2.0 * (self.matmul_parameters() - unread) * tokens
    table = 2.0 * (self.vocabulary + 1) * self.width * tokens if soft_inputs else 0.0
    if self.mixer == 'recurrent':
      return weights + table + 2.0 * self.layers * tokens * self.state
    share = patterns.of(pattern).share(tokens, self.layers)
    return weights + table + 4.0 * self.layers * tokens**2 * self.width * share


# width, layers, heads. The igpt_* rows are those of Chen et al. 2020, table 1 and their code.
PRESETS = {
  'nano': dict(width=64, layers=4, heads=4),
  'micro': dict(width=128, layers=6, heads=4),
  'mini': dict(width=192, layers=8, heads=6),
  'small': dict(width=256, layers=8, heads=8),
  'medium': dict(width=512, layers=12, heads=8),
  'igpt_s': dict(width=512, layers=24, heads=8),
  'igpt_m': dict(width=1024, layers=36, heads=8),
  'igpt_l': dict(width=1536, layers=48, heads=16),
  'igpt_xl': dict(width=3072, layers=60, heads=64),
}
