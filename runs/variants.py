"""Objectives as a comparison names them: 'block_diffusion+block=2', 'masked', …

Without a dot a field is one of the objective's settings, with one any field of the config, such as
'autoregressive+model.mixer=recurrent'.
"""

import dataclasses
import re

import objectives
from runs.errors import UserError


@dataclasses.dataclass(frozen=True)
class Variant:
  """An objective and what tells it apart from others of its name.

  Attributes:
    objective: its name.
    settings: (field of the config, value), ...
  """

  objective: str
  settings: tuple[tuple[str, str], ...] = ()

  @property
  def shown(self) -> str:
    """What reports write behind the objective's name: 'block=2', or ''."""
    return ' '.join(f'{field.rsplit(".", 1)[-1]}={value}' for field, value in self.settings)

  @property
  def slug(self) -> str:
    """The same as part of a directory's name: 'block_diffusion-block2'."""
    words = (f'{field.rsplit(".", 1)[-1]}{value}' for field, value in self.settings)
    return '-'.join([self.objective, *(re.sub(r'[^A-Za-z0-9_.+-]+', '_', word) for word in words)])

  @property
  def overrides(self) -> tuple[str, ...]:
    """What a config of the objective must be overridden with."""
    if not self.settings:
      return ()
    fields = (f'--config.{field}={value}' for field, value in self.settings)
    return (*fields, f'--config.variant={self.shown}')


def parse(text: str) -> Variant:
  """'NAME+FIELD=VALUE+…' as a Variant; UserError for a part that is no FIELD=VALUE.

  Whether objective and fields exist is found where the config is loaded.
  """
  name, *parts = text.split('+')
  settings = []
  for part in parts:
    field, found, value = part.partition('=')
    if not (field and found and value):
      raise UserError(f'{text}: behind an objective stands +FIELD=VALUE, not +{part}')
    if '.' not in field:
      if name in objectives.OBJECTIVES and field not in objectives.settings(name):
        known = ', '.join(objectives.settings(name)) or 'none'
        raise UserError(f'{text}: {name} has no setting {field}; it has: {known}')
      field = f'objective.{field}'
    settings.append((field, value))
  return Variant(name, tuple(settings))
