"""The page's HTTP interface: one page, its files, and photos by unguessable names."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from vdiffsr_jax.photos.kinds import EXTENSIONS
from vdiffsr_jax.sampling.tile_model import step_choices
from vdiffsr_jax.sampling.upscaler import Settings
from vdiffsr_jax.web.jobs import Job, Jobs, Refused

STATIC = Path(__file__).with_name("static")
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def make_app(jobs: Jobs, hosts: list[str]) -> Starlette:
    """The application; `hosts`: names under which it may be asked for (against DNS rebinding)."""

    async def about(request: Request) -> Response:
        limits = jobs.limits
        return JSONResponse(
            {
                "models": [
                    {
                        "name": name,
                        "steps": step_choices(upscaler.config),
                        "fidelity": upscaler.config.sharp and upscaler.config.sharp.fidelity,
                    }
                    for name, upscaler in jobs.models.items()
                ],
                "formats": list(EXTENSIONS),
                "megabytes": limits.megabytes,
                "megapixels": limits.megapixels,
            }
        )

    async def add(request: Request) -> Response:
        content = await _body(request, round(jobs.limits.megabytes * 1e6))
        query = request.query_params
        try:
            settings = Settings(
                steps=int(query.get("steps", 1)),
                seed=int(query.get("seed", 0)),
                color_fix=query.get("color") or None,  # as the checkpoint says
                fidelity=float(query["fidelity"]) if "fidelity" in query else None,
            )
            scale, quality = float(query.get("scale", 4)), int(query.get("quality", 95))
        except ValueError as error:
            raise Refused(f"a setting is no number: {error}") from None
        if settings.seed < 0:
            raise Refused("the seed must be 0 or above")
        job = await run_in_threadpool(
            jobs.add, query.get("name", "photo"), content, query.get("model", next(iter(jobs.models))), settings,
            scale=scale, format=query.get("format", "png"), quality=quality,
        )  # fmt: skip
        return JSONResponse({"id": job.id}, status_code=202)

    async def status(request: Request) -> Response:
        return JSONResponse(jobs.status(request.path_params["id"]))

    async def picture(request: Request) -> Response:
        path = jobs.get(request.path_params["id"]).folder / f"{request.path_params['which']}.png"
        if path.name not in ("before.png", "after.png") or not path.is_file():
            raise Refused("there is no such picture yet", 404)
        return FileResponse(path, headers=_HEADERS)

    async def result(request: Request) -> Response:
        job = _done(jobs.get(request.path_params["id"]))
        return FileResponse(job.task.target, filename=job.task.target.name, headers=_HEADERS)

    async def archive(request: Request) -> Response:
        wanted = [_done(job) for job in jobs.kept(request.query_params.get("ids", "").split(","))]
        if not wanted:
            raise Refused("there is none of these photos, or no longer", 404)
        content = await run_in_threadpool(_zip, wanted)
        attachment = {"Content-Disposition": f"attachment; filename={quote('upscaled.zip')}"}
        return Response(content, media_type="application/zip", headers=_HEADERS | attachment)

    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers=_HEADERS)

    return Starlette(
        routes=[
            Route("/", page),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/api/about", about),
            Route("/api/photos", add, methods=["POST"]),
            Route("/api/photos/{id}", status),
            Route("/api/photos/{id}/result", result),
            Route("/api/photos/{id}/{which:str}.png", picture),
            Route("/api/zip", archive),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
        exception_handlers={Refused: _in_words},
    )


async def _in_words(request: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    return JSONResponse({"error": str(refused)}, status_code=refused.status)


async def _body(request: Request, limit: int) -> bytes:
    """The photo, given up as soon as it is too large."""
    too_large = Refused(f"the file is larger than the limit here, {limit / 1e6:g} MB", 413)
    if int(request.headers.get("Content-Length", 0)) > limit:
        raise too_large
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise too_large
            parts.append(part)
    except ClientDisconnect:
        raise Refused("the upload was broken off", 499) from None
    return b"".join(parts)


def _done(job: Job) -> Job:
    if job.state != "done":
        raise Refused(f"{job.task.name} is {job.state}", 409)
    return job


def _zip(wanted: list[Job]) -> bytes:
    buffer, taken = io.BytesIO(), set()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for job in wanted:
            name, number = job.task.target.name, 1
            while name in taken:
                number += 1
                name = f"{job.task.target.stem}_{number}{job.task.target.suffix}"
            taken.add(name)
            archive.write(job.task.target, name)
    return buffer.getvalue()
