"""The error of a code."""


class CodeError(Exception):
  """Something that can't be coded or decoded; the message is one clear line."""
