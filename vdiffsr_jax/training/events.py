"""A run's curves and pictures for TensorBoard."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c


class EventFile:
    """Appends to one new file per start of a run; TensorBoard reads all of a directory.

    Written at once: tensorboardX's SummaryWriter leaves records in a thread's queue, which a killed run loses.
    """

    def __init__(self, directory: Path):
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self.file = open(directory / name, "ab", buffering=0)  # noqa: SIM115  (it lives as long as the run)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def _write(self, event: Event) -> None:
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        crcs = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
        self.file.write(b"".join((length, next(crcs), data, next(crcs))))

    def _add(self, step: int, *values: Summary.Value) -> None:
        self._write(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve."""
        self._add(step, *(Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()))

    def image(self, step: int, name: str, png: bytes, size: tuple[int, int]) -> None:
        """A PNG of (height, width) under a name."""
        image = Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=png)
        self._add(step, Summary.Value(tag=name, image=image))

    def close(self) -> None:
        """Close the file."""
        self.file.close()
