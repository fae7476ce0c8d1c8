"""Typed errors with a common base.

Each error is also the matching built-in exception, so that callers who do not know this package can still catch it. The
command line prints ``str(error)`` as one line and exits with ``exit_code``.
"""


class NcodecError(Exception):
    """Base of all errors that this package raises on purpose."""

    exit_code = 1


class VerifyError(NcodecError, ValueError):
    """Decoded pictures or latents that are not those that were expected."""

    exit_code = 1


class UsageError(NcodecError, ValueError):
    """An option or argument that cannot be honoured (unknown level, quality off the grid, ...)."""

    exit_code = 2


class InputError(NcodecError, ValueError):
    """A source file that cannot be read as video or pictures."""

    exit_code = 3


class OutputError(NcodecError, OSError):
    """A result that cannot be written."""

    exit_code = 4


class StreamError(NcodecError, ValueError):
    """A bitstream that breaks the specification (wrong signature, field out of range, failed check, truncation)."""

    exit_code = 5


class LimitError(StreamError):
    """A bitstream that asks for more than the reader's limits allow."""


class VersionError(StreamError):
    """A bitstream of a version or with a required feature that this program does not know."""


class DamageError(StreamError):
    """Parts of a stream were damaged and replaced or left out; everything else was decoded."""

    exit_code = 6


class ModelError(NcodecError, LookupError):
    """A model that is not installed, or whose files do not match their identity."""

    exit_code = 7


class MeasureError(NcodecError, ValueError):
    """Two sequences of pictures, or two rate-distortion curves, that cannot be compared."""

    exit_code = 8
