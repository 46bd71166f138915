"""Objectives by name. A new one is one new file and one line here."""

import dataclasses
import difflib
from typing import Any

from objectives.autoregressive import Autoregressive
from objectives.base import Code, Example, Network, Objective, Score, Space, View
from objectives.block_diffusion import BlockDiffusion
from objectives.denoising import Denoising
from objectives.dual import Dual
from objectives.energy import Energy
from objectives.gaussian_diffusion import GaussianDiffusion
from objectives.gaussian_simple import GaussianSimple
from objectives.masked import Masked
from objectives.masked_diffusion import MaskedDiffusion
from objectives.supervised import Supervised
from objectives.uniform_diffusion import UniformDiffusion
from objectives.untrained import Untrained, UntrainedCausal, UntrainedGaussian

OBJECTIVES: dict[str, type[Objective]] = {
  'autoregressive': Autoregressive,
  'masked': Masked,
  'masked_diffusion': MaskedDiffusion,
  'block_diffusion': BlockDiffusion,
  'uniform_diffusion': UniformDiffusion,
  'dual': Dual,
  'gaussian_diffusion': GaussianDiffusion,
  'gaussian_simple': GaussianSimple,
  'denoising': Denoising,
  'energy': Energy,
  'supervised': Supervised,
  'untrained': Untrained,
  'untrained_causal': UntrainedCausal,
  'untrained_gaussian': UntrainedGaussian,
}

__all__ = [
  'OBJECTIVES',
  'Code',
  'Example',
  'Network',
  'Objective',
  'Score',
  'Space',
  'View',
  'get',
  'settings',
]


def _class(name: str) -> type[Objective]:
  if name not in OBJECTIVES:
    near = difflib.get_close_matches(name, OBJECTIVES, 1)
    hint = f'; did you mean {near[0]}?' if near else ''
    raise ValueError(f"unknown objective '{name}'; known: {', '.join(OBJECTIVES)}{hint}")
  return OBJECTIVES[name]


def settings(name: str) -> dict[str, Any]:
  """The objective's settings with their defaults, as they appear under `config.objective`."""
  return {field.name: field.default for field in dataclasses.fields(_class(name))}


def input_scale(name: str) -> float | None:
  """The initial spread of tokens and positions that the objective asks for, if any."""
  return _class(name).input_scale


def get(name: str, **chosen: Any) -> Objective:
  """Builds an objective; ValueError names the known ones, or the setting at fault."""
  return _class(name)(**chosen)
