"""The same network and the same training step in plain PyTorch: the peer that we measure against.

Nothing but benchmarks and their test imports this file; the test copies our parameters into it and
compares loss and gradients number by number.
"""

import math
import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.sizes import OPTIMIZER, STEPS, Size


class Block(nn.Module):
  """h + attention(norm(h)), then h + mlp(norm(h))."""

  def __init__(self, width: int, heads: int):
    super().__init__()
    self.heads = heads
    self.norm_attention = nn.RMSNorm(width, eps=1e-5)
    self.norm_mlp = nn.RMSNorm(width, eps=1e-5)
    self.qkv = nn.Linear(width, 3 * width, bias=False)
    self.out = nn.Linear(width, width, bias=False)
    self.mlp_in = nn.Linear(width, 4 * width, bias=False)
    self.mlp_out = nn.Linear(4 * width, width, bias=False)

  def forward(self, h: torch.Tensor) -> torch.Tensor:
    batch, tokens, width = h.shape
    qkv = self.qkv(self.norm_attention(h)).view(batch, tokens, 3, self.heads, -1)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    h = h + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))
    hidden = self.mlp_in(self.norm_mlp(h))
    return h + self.mlp_out(hidden * torch.sigmoid(1.702 * hidden))


class Network(nn.Module):
  """ImageGPT's form, causal and shifted by a learned start vector."""

  def __init__(self, size: Size):
    super().__init__()
    width = size.width
    self.token_table = nn.Embedding(size.vocabulary + 1, width)
    self.position_table = nn.Parameter(torch.empty(size.length, width))
    self.start = nn.Parameter(torch.empty(width))
    self.blocks = nn.ModuleList(Block(width, size.heads) for _ in range(size.layers))
    self.norm_final = nn.RMSNorm(width, eps=1e-5)
    self.output = nn.Linear(width, size.vocabulary, bias=False)
    self._initialise(size)

  @torch.no_grad()
  def _initialise(self, size: Size) -> None:
    self.token_table.weight.normal_(0, 0.02)
    self.position_table.normal_(0, 0.01)
    self.start.normal_(0, 0.02)
    self.output.weight.zero_()
    for block in self.blocks:
      block.qkv.weight.normal_(0, 1 / math.sqrt(size.width))
      block.out.weight.normal_(0, 1 / math.sqrt(size.width * size.layers))
      block.mlp_in.weight.normal_(0, 0.02)
      block.mlp_out.weight.normal_(0, 0.02)

  def forward(self, tokens: torch.Tensor) -> torch.Tensor:
    """Token ids BxT -> logits BxTxV."""
    h = self.token_table(tokens)
    start = self.start.expand(len(tokens), 1, -1)
    h = torch.cat([start, h[:, :-1]], dim=1) + self.position_table
    for block in self.blocks:
      h = block(h)
    return self.output(self.norm_final(h))


def learning_rate(step: int) -> float:
  """Linear warm-up, then a cosine to 0, as in `training.optimizer.schedule`."""
  peak, warmup = OPTIMIZER['learning_rate'], OPTIMIZER['warmup_steps']
  if step < warmup:
    return peak * step / warmup
  return 0.5 * peak * (1 + math.cos(math.pi * min(1.0, (step - warmup) / (STEPS - warmup))))


class Training:
  """A network, its AdamW and one update at a time.

  Args:
    size: what to train.
    adamw: 'plain', 'foreach' or 'fused', PyTorch's own variants of the same update.
    device: where.
    compiled: by torch.compile.
    bfloat16: of the passes, by autocast; parameters and the loss stay float32.
  """

  def __init__(
    self,
    size: Size,
    adamw: str = 'fused',
    device: str = 'cpu',
    compiled: bool = False,
    bfloat16: bool = False,
  ):
    torch.manual_seed(0)
    self.network, self.device, self.bfloat16 = Network(size).to(device), device, bfloat16
    self.forward = torch.compile(self._loss) if compiled else self._loss
    decayed = [p for m in self.network.modules() if isinstance(m, nn.Linear)
               for p in m.parameters()]  # fmt: skip
    kept = {id(p) for p in decayed}
    rest = [p for p in self.network.parameters() if id(p) not in kept]
    self.optimizer = torch.optim.AdamW(
      [{'params': decayed}, {'params': rest, 'weight_decay': 0.0}],
      lr=OPTIMIZER['learning_rate'],
      betas=(OPTIMIZER['beta1'], OPTIMIZER['beta2']),
      weight_decay=OPTIMIZER['weight_decay'],
      foreach=adamw == 'foreach',
      fused=adamw == 'fused',
    )
    self.steps = 0

  def _loss(self, batch: torch.Tensor) -> torch.Tensor:
    with torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16):
      logits = self.network(batch)
    return F.cross_entropy(logits.float().flatten(0, 1), batch.flatten())

  def update(self, tokens: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """One update on tokens BxT; the loss in nats per token and the gradient's norm before it."""
    for group in self.optimizer.param_groups:
      group['lr'] = learning_rate(self.steps)
    loss = self.forward(torch.from_numpy(tokens).to(self.device))
    self.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(self.network.parameters(), OPTIMIZER['clip_norm'])
    self.optimizer.step()
    self.steps += 1
    return loss.detach(), norm.detach()

  def step(self, tokens: np.ndarray) -> tuple[float, float]:
    """`update`, and its numbers."""
    loss, norm = self.update(tokens)
    return float(loss), float(norm)


def start(
  size: Size, batches: np.ndarray, threads: int, adamw: str, **where: Any
) -> tuple[dict, object]:
  """Makes the training and its first step; `where` as in `Training`.

  Returns:
    What is known after it, and `run(seconds) -> (steps, seconds)`.
  """
  torch.set_num_threads(threads)
  training = Training(size, adamw, **where)
  batches = batches.astype(np.int64)
  begin = time.perf_counter()
  loss, _ = training.step(batches[0])
  first = time.perf_counter() - begin

  def run(seconds: float) -> tuple[int, float]:
    begin, steps, running = time.perf_counter(), 0, None
    while time.perf_counter() - begin < seconds:
      made = training.update(batches[steps % len(batches)])
      steps += 1
      # The numbers of the step before are read while this one runs, as on our side.
      if running is not None:
        [float(number) for number in running]
      running = made
    [float(number) for number in running or ()]
    return steps, time.perf_counter() - begin

  return {'first_seconds': first, 'first_loss': loss, 'version': torch.__version__}, run


def matmul_flops(width: int) -> float:
  """FLOP/s of one large float32 product with the threads set by `start`."""
  a = torch.randn(width, width)
  torch.mm(a, a)
  seconds = []
  for _ in range(5):
    begin = time.perf_counter()
    torch.mm(a, a)
    seconds.append(time.perf_counter() - begin)
  return 2 * width**3 / min(seconds)
