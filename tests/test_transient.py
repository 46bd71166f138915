"""Runs of which only numbers are kept."""

import os

import numpy as np
import pytest

from runs import recorded, run, transient
from runs.errors import UserError


def test_every_run_has_its_settings_and_a_directory_that_goes(data_dir, monkeypatch):
  seen = []

  def execute(built, workdir):
    assert os.path.isdir(workdir)
    seen.append(workdir)
    record = {'steps': built.config.training.steps, 'objective': built.config.objective.name}
    return recorded.write_record(workdir, record, {'nats': np.arange(len(seen))})

  monkeypatch.setattr(run, 'execute', execute)
  runs = [[f'--config.training.steps={steps}'] for steps in (200, 300)]
  found = list(transient.records('experiments/digits.py', 'masked', runs, data_dir))
  assert [record['steps'] for record, _ in found] == [200, 300]
  assert [arrays['nats'].tolist() for _, arrays in found] == [[0], [0, 1]]
  assert found[0][0]['objective'] == 'masked' and not any(map(os.path.exists, seen))
  with pytest.raises(UserError, match='no_such'):
    list(transient.records('experiments/digits.py', 'masked', [['--config.no_such=1']], data_dir))
