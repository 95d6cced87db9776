"""What upscaling refuses."""


class SamplingError(ValueError):
    """The model cannot be loaded or asked this way, or has no result for this photo; the message says what and why."""


class DeviceMemoryError(RuntimeError):
    """Not even the smallest batch fits into the devices' memory."""
