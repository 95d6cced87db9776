"""Photos into ArrayRecord shards, for many hosts and for buckets:

    python -m vdiffsr_jax.data.pack --input PHOTOS --output DIR_OR_gs://BUCKET/DIR

A record is a photo file's bytes, unchanged; the last record of a shard is its index (names and sizes as JSON).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

from vdiffsr_jax.config.ranges import Positive, number
from vdiffsr_jax.data.cli import run
from vdiffsr_jax.data.photos import Broken, DataError, decode
from vdiffsr_jax.data.sources import INDEX_FORMAT, SHARD_SUFFIX, Records, Source, open_source
from vdiffsr_jax.photos.photo import ImageError
from vdiffsr_jax.runtime.batches import batches


def pack(source: str, output: str, *, shard_bytes: float = 256 * 2**20) -> tuple[int, int]:
    """Write every photo of a folder, list file or own source that decodes; broken ones are named and left out.

    Shards take their final names only when all are written, so a broken-off packing is never read.

    Returns: how many photos were packed, how many were broken.
    Raises: DataError if the output already holds shards or cannot be written, or if nothing could be packed.
    """
    from etils import epath

    broken = Broken()
    photos = open_source(source, broken)
    if isinstance(photos, Records):
        raise DataError(f"{source} holds shards already")
    with futures.ThreadPoolExecutor() as pool:
        whole = pool.map(lambda index: _decodes(photos, index, broken), range(len(photos.names)))
        kept = [index for index, good in enumerate(whole) if good]
    if not kept:
        raise DataError(f"no photo in {source} can be decoded")
    try:
        target = epath.Path(output)
        target.mkdir(parents=True, exist_ok=True)
        if any(target.glob(f"*{SHARD_SUFFIX}")):
            raise DataError(f"{output} already holds {SHARD_SUFFIX} shards: name another folder, or remove them")
        parts = batches([_bytes(photos.data(index)) for index in kept], shard_bytes)
        shards = [_write(target, n, photos, kept[part]) for n, part in enumerate(parts)]
        for partial, final in shards:
            partial.rename(final)
    except (OSError, ImportError) as error:
        raise DataError(f"{output} cannot be written: {error}") from error
    return len(kept), broken.count


def _bytes(data: Path | bytes) -> int:
    return len(data) if isinstance(data, bytes) else data.stat().st_size


def _decodes(photos: Source, index: int, broken: Broken) -> bool:
    try:
        decode(photos.data(index))
    except ImageError as error:
        broken.report(photos.names[index], error)
        return False
    return True


def _write(target: Any, number: int, photos: Source, part: list[int]) -> tuple[Any, Any]:
    """One shard, made on the local disk and copied: the target may be a bucket. Returns: partial and final path."""
    from array_record.python.array_record_module import ArrayRecordWriter
    from etils import epath

    final = target / f"photos-{number:05d}{SHARD_SUFFIX}"
    partial = target / f"{final.name}.partial"
    with tempfile.TemporaryDirectory() as folder:
        local = Path(folder) / final.name
        # A group of one record: a random photo is read without its neighbours.
        writer = ArrayRecordWriter(str(local), "group_size:1")
        for index in part:
            data = photos.data(index)
            writer.write(data if isinstance(data, bytes) else data.read_bytes())
        # A key is the name without its suffix: where there is none, a dot takes its place.
        names = [photos.keys[index] + (Path(photos.names[index]).suffix or ".") for index in part]
        entry = {"format": INDEX_FORMAT, "names": names, "sizes": photos.sizes[part].tolist()}
        writer.write(json.dumps(entry).encode())
        writer.close()
        epath.Path(local).copy(partial, overwrite=True)
    return partial, final


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 all packed, 1 some photos broken, 2 wrong usage."""
    parser = argparse.ArgumentParser(description="Pack photos into ArrayRecord shards.")
    parser.add_argument("--input", required=True, help="folder (searched recursively), list file or module:Class:place")
    parser.add_argument("--output", required=True, help="folder for the shards; gs://BUCKET/DIR needs gcsfs")
    parser.add_argument(
        "--shard-megabytes", type=number(Positive), default=256, help="photos in one shard (default 256)"
    )
    parser.add_argument("--verbose", action="store_true", help="show the trace of an error")
    args = parser.parse_args(argv)

    def work() -> int:
        packed, broken = pack(args.input, args.output, shard_bytes=args.shard_megabytes * 2**20)
        print(f"{packed} photos packed into {args.output}" + (f", {broken} broken left out" if broken else ""))
        return 1 if broken else 0

    return run(work, verbose=args.verbose)


if __name__ == "__main__":
    sys.exit(main())
