"""Commands in the test's own process, where that they are processes is tested elsewhere."""

import functools
import importlib
import inspect
from types import SimpleNamespace
from unittest import mock

from absl import flags

from launch import entry


def call(name: str, *arguments: str) -> None:
  """The main of launch.NAME with these words of its command line; raises what it raises."""
  module, values = importlib.import_module(f'launch.{name}'), flags.FlagValues()
  kinds = ('string', 'bool', 'integer', 'float', 'list', 'enum', 'multi_string')
  own = {
    f'DEFINE_{kind}': functools.partial(getattr(flags, f'DEFINE_{kind}'), flag_values=values)
    for kind in kinds
  }
  argv, overrides = entry.config_overrides([name, *arguments])
  with mock.patch.object(module, 'flags', SimpleNamespace(FLAGS=values, **own)):
    module.define_flags()
    takes_config = len(inspect.signature(module.main).parameters) > 1
    module.main(values(argv), *([overrides] if takes_config else []))
