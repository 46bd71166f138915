"""Shared fixtures. Rank promotion raises everywhere, so that no shape is right by accident."""

import os

os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory) -> str:
  """Where the session's data sets are prepared, once."""
  return str(tmp_path_factory.mktemp('data'))
