"""The error of a reader of records."""


class ReportError(Exception):
  """Records that can't be read or compared; the message is one clear line."""
