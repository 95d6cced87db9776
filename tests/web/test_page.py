"""The page in headless Chromium, and its interface without one: what it takes, refuses, and gives back."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image

from tests.sampling.conftest import plain_model  # noqa: F401  (a fixture)
from vdiffsr_jax import Upscaler
from vdiffsr_jax.cli import sample
from vdiffsr_jax.config import SharpConfig
from vdiffsr_jax.sampling.upscaler import Settings
from vdiffsr_jax.web import jobs as jobs_module
from vdiffsr_jax.web.app import make_app
from vdiffsr_jax.web.jobs import Jobs, Limits, Refused

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


class TwoEnds:
    """The same model as if it had a sharp end; it notes what it is asked for."""

    def __init__(self, upscaler: Upscaler) -> None:
        self.plain, self.asked, self.colours = upscaler, [], []
        self.config = dataclasses.replace(upscaler.config, sharp=SharpConfig(networks=("denoiser",), fidelity=0.4))
        self.grid = upscaler.grid

    def check(self, settings: Settings) -> None:
        self.asked.append(settings.fidelity)
        self.colours.append(settings.color_fix)

    def outcomes(self, images, settings, progress):
        return self.plain.outcomes(images, dataclasses.replace(settings, fidelity=None), progress)


@pytest.fixture(scope="module")
def two_ends(plain_model):  # noqa: F811
    return TwoEnds(Upscaler.load(plain_model, devices=1))


@pytest.fixture(scope="module")
def page(two_ends):
    """The address of a running page with small limits and two models."""
    models = {"tiny": two_ends.plain, "two ends": two_ends}
    jobs = Jobs(models, Limits(megabytes=0.2, megapixels=0.01, waiting=8))
    app = make_app(jobs, ["127.0.0.1"])
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()
    jobs.close()
    assert not jobs.folder.exists()


@pytest.fixture
def photo(tmp_path) -> Path:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 24, 3), np.uint8))
    exif = Image.Exif()
    exif[0x010E] = "a description"
    path = tmp_path / "photo.jpg"
    image.save(path, exif=exif, quality=95)
    return path


@pytest.fixture
def expected(photo, plain_model, tmp_path) -> bytes:  # noqa: F811
    """What sample.py writes of the photo."""
    args = ["-i", str(photo), "-o", str(tmp_path / "out"), "--ckpt", str(plain_model), "--devices", "1"]
    assert sample.main(args) == 0
    return (tmp_path / "out" / "photo.png").read_bytes()


def refusal(page, content, query="name=x.png", host=None):
    headers = {"Host": host} if host else {}
    request = urllib.request.Request(f"{page}/api/photos?{query}", data=content, headers=headers)
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    return caught.value.code, caught.value.read().decode()


def test_colours_are_those_that_the_checkpoint_wants_unless_it_is_said_otherwise(page, two_ends, photo):
    for color in ("", "&color=", "&color=none", "&color=adain"):
        query = f"name=photo.jpg&model=two%20ends{color}"
        urllib.request.urlopen(urllib.request.Request(f"{page}/api/photos?{query}", data=photo.read_bytes())).close()
    assert two_ends.colours[-4:] == [None, None, "none", "adain"]


def test_the_zip_holds_what_is_still_there(page, photo, expected):
    asked = urllib.request.Request(f"{page}/api/photos?name=photo.jpg", data=photo.read_bytes())
    kept = json.load(urllib.request.urlopen(asked))["id"]
    while json.load(urllib.request.urlopen(f"{page}/api/photos/{kept}"))["state"] != "done":
        time.sleep(0.1)
    content = urllib.request.urlopen(f"{page}/api/zip?ids=expired,{kept}").read()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["photo.png"]
        assert archive.read("photo.png") == expected
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{page}/api/zip?ids=expired")


def test_results_go_though_nobody_asks(two_ends, photo, monkeypatch):
    monkeypatch.setattr(jobs_module, "_TIDYING", 0.05)
    jobs = Jobs({"tiny": two_ends.plain}, Limits(kept=0.2))
    job = jobs.add("a.jpg", photo.read_bytes(), "tiny", Settings(), scale=4, format="png", quality=95)
    deadline = time.monotonic() + 60
    while job.folder.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(jobs.folder.iterdir()) == []
    with pytest.raises(Refused, match="or no longer"):
        jobs.status(job.id)
    jobs.close()


def test_a_server_that_is_told_to_stop_leaves_no_photo(tmp_path, plain_model):  # noqa: F811
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run = "import sys; from vdiffsr_jax.cli.web import main; sys.exit(main())"
    command = [sys.executable, "-c", run, "--ckpt", str(plain_model), "--port", str(port)]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert "stop with Ctrl-C" in server.stdout.readline()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/api/about"):
                break
            time.sleep(0.05)
        assert list(tmp_path.glob("vdiffsr_web_*"))
        server.terminate()
        assert server.wait(60) == 143
    assert not list(tmp_path.glob("vdiffsr_web_*"))


def test_what_is_refused_is_told_in_words(page, photo):
    assert refusal(page, b"x" * 300_000) == (413, '{"error":"the file is larger than the limit here, 0.2 MB"}')
    bomb = io.BytesIO()
    Image.new("1", (12_000, 10_000)).save(bomb, "PNG")
    code, words = refusal(page, bomb.getvalue())
    assert (code, "12000 x 10000 = 120 megapixels; the limit here is 0.01" in words) == (413, True)
    assert refusal(page, b"no picture at all")[0] == 400
    assert "this model's schedule has 4 steps" in refusal(page, photo.read_bytes(), "steps=15")[1]
    assert "is no number" in refusal(page, photo.read_bytes(), "seed=one")[1]
    assert "there is no model 'other' here; there are tiny, two ends" in refusal(page, b"", "model=other")[1]
    assert "fidelity" in refusal(page, photo.read_bytes(), "model=tiny&fidelity=0.5")[1]
    assert refusal(page, photo.read_bytes(), host="evil.example")[0] == 400
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{page}/api/photos/none")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (apt-get install chromium)")
def test_in_the_browser(page, two_ends, photo, expected, tmp_path):
    from playwright.sync_api import expect, sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        people = [browser.new_context(viewport={"width": 1000, "height": 1100}).new_page() for _ in range(2)]
        outside: list[str] = []
        problems: list[str] = []
        for person in people:
            person.on("request", lambda r: outside.append(r.url) if not r.url.startswith((page, "data:")) else None)
            person.on("pageerror", lambda error: problems.append(str(error)))
            person.goto(page)
            person.wait_for_selector("#format option >> nth=4", state="attached")
        first, second = people

        # Two people at once, each with a photo of their own name; neither sees the other's.
        other = tmp_path / "other.jpg"
        shutil.copy(photo, other)
        first.set_input_files("#files", photo)
        second.set_input_files("#files", other)
        for person, name in ((first, "photo.jpg"), (second, "other.jpg")):
            person.wait_for_selector("li.done", timeout=120_000)
            assert person.locator("#photos .name").all_inner_texts() == [name]
        with first.expect_download() as download:
            first.click("li.done a")
        assert download.value.suggested_filename == "photo.png"
        assert Path(download.value.path()).read_bytes() == expected, "what sample.py writes, EXIF and all"

        # The slider shows before on its left; zoom stays on the same place of both pictures.
        expect(first.locator("#after")).to_have_js_property("naturalWidth", 96)
        clip = "document.getElementById('before').style.clipPath"
        assert first.evaluate(clip) == "inset(0px 50% 0px 0px)"
        first.locator("#slider").fill("25")
        assert first.evaluate(clip) == "inset(0px 75% 0px 0px)"
        first.locator("#zoom").fill("4")
        moves = [first.evaluate(f"document.getElementById('{which}').style.transform") for which in ("before", "after")]
        assert moves[0] == moves[1]
        assert "scale(4)" in moves[0]
        if folder := os.environ.get("VDIFFSR_SCREENSHOTS"):
            first.screenshot(path=Path(folder) / "page.png")

        # Another model, whose fidelity can be chosen.
        expect(second.locator("#ends")).to_be_hidden()
        second.select_option("#model", "two ends")
        expect(second.locator("#fidelity")).to_have_value("0.4")
        second.locator("#fidelity").fill("0.25")
        second.set_input_files("#files", photo)
        expect(second.locator("#error")).to_be_empty()
        expect(second.locator("#photos li")).to_have_count(2)
        expect(second.locator("li.done")).to_have_count(2, timeout=60_000)
        assert two_ends.asked[-1:] == [0.25]

        # A bad file and a huge one beside a good one: named in words, and two results make a zip.
        bad, huge = tmp_path / "bad.png", tmp_path / "huge.png"
        bad.write_bytes(b"no picture")
        huge.write_bytes(os.urandom(300_000))
        first.set_input_files("#files", [bad, huge, photo])
        expect(first.locator("li.done")).to_have_count(2, timeout=120_000)
        expect(first.locator("#error")).to_contain_text("bad.png is")
        expect(first.locator("#error")).to_contain_text(re.compile("larger than the limit|connection broke off"))
        with first.expect_download() as download:
            first.click("#zip")
        with zipfile.ZipFile(download.value.path()) as archive:
            assert archive.namelist() == ["photo.png", "photo_2.png"]
            assert archive.read("photo.png") == expected
        assert outside == [], "nothing is asked of other servers"
        assert problems == []
        browser.close()
