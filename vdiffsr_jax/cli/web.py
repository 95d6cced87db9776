"""A page in the browser: drag photos in, compare, download. For this machine alone unless --host says otherwise."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from vdiffsr_jax.config import ExpectedError
from vdiffsr_jax.config.ranges import Count, Port, Positive, number
from vdiffsr_jax.distribution.resolve import agree, ask_on_terminal, resolve
from vdiffsr_jax.runtime import compile_cache
from vdiffsr_jax.runtime.signals import Terminated, stopping
from vdiffsr_jax.sampling.bundled import BUNDLED_MODEL

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def parser() -> argparse.ArgumentParser:
    """Every flag with its default."""
    p = argparse.ArgumentParser(prog="vdiffsr-web", description=__doc__)
    p.add_argument("--ckpt", nargs="+", metavar="MODEL", default=[],
                   help="folders, names or hub's ORG/NAME to choose from; default: the bundled model")  # fmt: skip
    p.add_argument("--yes", action="store_true", help="download a named model without asking")
    p.add_argument("--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 lets the network in")
    p.add_argument("--port", type=number(Port), default=7860)
    p.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    p.add_argument("--max_megabytes", type=number(Positive), default=50.0, help="of an upload (default: 50)")
    p.add_argument("--max_megapixels", type=number(Positive), default=4.0, help="of a photo (default: 4)")
    p.add_argument("--max_waiting", type=number(Count), default=32, help="photos in the queue (default: 32)")
    compile_cache.add_flag(p)
    return p


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted; returns the exit code."""
    args = parser().parse_args(arguments)
    try:
        import uvicorn

        from vdiffsr_jax.web.app import make_app
    except ImportError as error:
        print(f"error: the page needs the extra web (pip install 'vdiffsr-jax[web]'): {error}", file=sys.stderr)
        return 2
    from vdiffsr_jax.sampling.upscaler import Upscaler
    from vdiffsr_jax.web.jobs import Jobs, Limits

    try:
        ask = agree if args.yes else ask_on_terminal
        places = {name: resolve(name, ask=ask) for name in args.ckpt} or {"small, bundled": str(BUNDLED_MODEL)}
        compile_cache.use(args.compile_cache)
        models = {name: Upscaler.load(place, dtype=args.dtype) for name, place in places.items()}
    except ExpectedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    limits = Limits(megabytes=args.max_megabytes, megapixels=args.max_megapixels, waiting=args.max_waiting)
    jobs = Jobs(models, limits)
    loopback = args.host in _LOOPBACK
    app = make_app(jobs, list(_LOOPBACK[:2]) if loopback else ["*"])
    whom = "this machine only" if loopback else "everybody who reaches this machine: there is no password"
    print(f"http://{'localhost' if loopback else args.host}:{args.port} for {whom}; stop with Ctrl-C", flush=True)
    try:
        with stopping():  # uvicorn passes a SIGTERM on when it is done, which would end the process before `finally`
            uvicorn.run(app, host=args.host, port=args.port, log_level="warning")
    except Terminated:
        return 143
    finally:
        jobs.close()
    return 0
