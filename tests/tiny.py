"""A run small enough to train inside a test."""

from experiments import digits
from runs import configs, experiment

OVERRIDES = (
  '--config.model.width=16',
  '--config.model.layers=1',
  '--config.model.heads=2',
  '--config.training.steps=8',
  '--config.training.batch_size=8',
  '--config.training.log_every=2',
  '--config.evaluators.validation.every=4',
  '--config.evaluators.probe.every=0',
  '--config.checkpoints.every=4',
  '--config.optimizer.warmup_steps=2',
  '--config.evaluation.draws=2',
  '--config.evaluation.samples=0',
  '--config.evaluation.validation_draws=1',
  "--config.probe.suite=('linear',)",
  '--config.probe.linear.labels=10,40',
  '--config.probe.linear.draws=2',
  '--config.probe.linear.l2=0.01,1.0',
  '--config.probe.linear.few_l2=0.01,1.0',
)

# What takes most of such a run's time: probes along training, and samples.
PICTURES = ('--config.evaluators.probe.every=4', '--config.evaluation.samples=32')


def config(objective: str = 'masked_diffusion', *overrides: str):
  return configs.override(digits.get_config(objective), [*OVERRIDES, *overrides])


def build(data_dir: str, objective: str = 'masked_diffusion', *overrides: str):
  return experiment.build(config(objective, *overrides), data_dir)
