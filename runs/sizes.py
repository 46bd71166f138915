"""How large a backbone is by its config, and what its size is called."""

import ml_collections

from models.config import PRESETS


def shape(model: ml_collections.ConfigDict) -> dict[str, int]:
  """Width, layers and heads: the preset's, or those that `config.model` names itself."""
  return {
    **PRESETS[model.preset],
    **{k: model[k] for k in ('width', 'layers', 'heads') if model[k]},
  }


def name(model: ml_collections.ConfigDict) -> str:
  """The preset's name, or its shape if a field overrides it, and what else is not the default.

  Runs of one size are averaged and compared, so no two backbones may share it.
  """
  preset = not (model.width or model.layers or model.heads)
  own = model.preset if preset else 'L{layers}D{width}H{heads}'.format(**shape(model))
  others = (
    (model.shared_layers, 'shared'),
    (model.mixer == 'recurrent', f'recurrent{model.state}'),
    (model.dropout > 0, f'dropout{model.dropout:g}'),
    (not model.residual, 'no residual'),
    (model.norm != 'pre', f'norm {model.norm}'),
  )
  return ', '.join([own, *(word for said, word in others if said)])
