"""The one tree of errors that gls-es raises on purpose.

A message says what is wrong, where (module path, file, option), and what to do about it, in one sentence if it fits.
The command line shows the message alone and ends with status 1 (2 for :class:`ConfigError`).
"""


class GlsEsError(Exception):
    """Anything gls-es refuses or could not do; the message is meant for the user."""


class ConfigError(GlsEsError, ValueError):
    """An option, argument or configuration key with a value that makes no sense."""


class UnsupportedNetworkError(GlsEsError, ValueError):
    """A network that holds something whose bounds are not known; the message lists every offending module."""


class DataError(GlsEsError):
    """A dataset that is missing, damaged, or holds values a certificate cannot be about (NaN, outside [0, 1])."""


class CheckpointError(GlsEsError):
    """A checkpoint that cannot be read, written, or used for what was asked."""


class FormatError(GlsEsError):
    """A file in an exchange format (ONNX, VNN-LIB, safetensors) that cannot be read, written, or used here."""


class TrainingError(GlsEsError):
    """Training that cannot go on (every loss non-finite, say); the last good checkpoint is kept."""


class ActorError(TrainingError):
    """A process that evaluated a share of the population is gone."""


class BusyError(TrainingError):
    """A folder or file that another process works in."""
