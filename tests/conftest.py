"""Shared fixtures. Rank promotion raises everywhere, so that no shape is right by accident."""

import os

import jax
import pytest

jax.config.update('jax_platforms', os.environ.get('JAX_PLATFORMS') or 'cpu')
jax.config.update('jax_numpy_rank_promotion', 'raise')


@pytest.fixture(scope='session')
def data_dir(tmp_path_factory) -> str:
  """Where the session's data sets are prepared, once."""
  return str(tmp_path_factory.mktemp('data'))
