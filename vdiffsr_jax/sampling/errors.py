"""What upscaling refuses."""

from vdiffsr_jax.config import ExpectedError


class SamplingError(ExpectedError, ValueError):
    """The model cannot be loaded or asked this way, or has no result for this photo; the message says what and why."""


class DeviceMemoryError(ExpectedError, RuntimeError):
    """Not even the smallest batch fits into the devices' memory."""

    exit_code = 1
