"""One file from a server that breaks off, lies about length, serves pages and other files; and a disk that is full."""

from __future__ import annotations

import errno
import hashlib
import http.client
import shutil
import ssl

import pytest

from vdiffsr_jax.distribution import download as module
from vdiffsr_jax.distribution.download import DownloadError, download

CONTENT = bytes(range(256)) * 2048
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def url(server, cache):
    (server.folder / "file.pth").write_bytes(CONTENT)
    return f"{server.address}/file.pth"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "downloads" / "file.pth"


def left(target):
    return sorted(path.name for path in target.parent.iterdir())


def test_a_file_arrives_whole_with_its_progress(url, target):
    told = []
    assert download(url, target, sha256=SHA256, report=lambda *now: told.append(now)) == SHA256
    assert target.read_bytes() == CONTENT
    assert left(target) == ["file.pth"]
    assert told[0] == (0, len(CONTENT))
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_broken_connection_is_resumed_within_the_call(url, server, target):
    server.faults = ["cut", "busy", "cut"]
    assert download(url, target, sha256=SHA256) == SHA256
    half = len(CONTENT) // 2
    assert [wanted for _, wanted in server.requests] == [
        None, f"bytes={half}-", f"bytes={half}-", f"bytes={half + half // 2}-"
    ]  # fmt: skip


def test_a_later_call_goes_on_where_the_last_one_gave_up(url, server, target):
    server.faults = ["cut"]
    with pytest.raises(DownloadError, match=r"ended after 262144 of 524288 bytes, 1 times; what arrived is kept"):
        download(url, target, tries=1)
    assert not target.exists()
    assert ".file.pth.partial" in left(target)
    download(url, target, sha256=SHA256)
    assert server.requests[-1][1] == "bytes=262144-"
    assert left(target) == ["file.pth"]


@pytest.mark.parametrize("error", [http.client.IncompleteRead(b"", 9), ssl.SSLError("bad record"), TimeoutError()])
def test_however_it_was_cut_short_a_later_call_goes_on(url, server, target, monkeypatch, error):
    def cut(url, response, file, *_):
        file.write(response.read(1000))
        raise error

    with monkeypatch.context() as context:
        context.setattr(module, "_copy", cut)
        with pytest.raises(DownloadError, match="1 times; what arrived is kept"):
            download(url, target, tries=1)
    download(url, target, sha256=SHA256)
    assert server.requests[-1][1] == "bytes=1000-"


def test_a_file_that_changed_meanwhile_is_taken_from_its_start(url, server, target):
    server.faults = ["cut"]
    with pytest.raises(DownloadError):
        download(url, target, tries=1)
    (server.folder / "file.pth").write_bytes(CONTENT[::-1])
    download(url, target)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_starts_anew(url, server, target):
    server.ranges, server.faults = False, ["cut"]
    assert download(url, target, sha256=SHA256) == SHA256


def test_a_promise_of_more_than_there_is_ends_in_words(url, server, target):
    server.ranges, server.faults = False, ["long"] * 5
    with pytest.raises(DownloadError, match="5 times"):
        download(url, target)
    assert not target.exists()


def test_a_promise_of_less_is_found_by_the_hash(url, server, target):
    server.faults = ["short"]
    with pytest.raises(DownloadError, match="is not the file that is expected"):
        download(url, target, sha256=SHA256)
    assert left(target) == []


@pytest.mark.parametrize("fault", ["page", "disguised"])
def test_a_page_is_no_file(url, server, target, fault):
    server.faults = [fault]
    with pytest.raises(DownloadError, match="sent a page, not the file"):
        download(url, target)
    assert left(target) == []


def test_another_file_is_refused_and_deleted(url, server, target):
    (server.folder / "file.pth").write_bytes(b"other" * 1000)
    with pytest.raises(DownloadError, match=rf"is not the file .* not {SHA256}.*--accept-change"):
        download(url, target, sha256=SHA256)
    assert left(target) == []


def test_what_is_not_there_is_said_at_once(url, server, target):
    server.faults = ["gone"]
    with pytest.raises(DownloadError, match=r"404 Not Found; .*VDIFFSR_MIRROR"):
        download(url, target)
    assert len(server.requests) == 1


def test_a_range_nobody_asked_for_is_not_appended(url, server, target):
    server.faults = ["cut", "foreign"]
    with pytest.raises(DownloadError, match="makes no sense"):
        download(url, target)
    assert left(target) == []


def test_nobody_there(target, cache):
    with pytest.raises(DownloadError, match="refused, 2 times"):
        download("http://127.0.0.1:9/file.pth", target, tries=2)
    assert left(target) == []


def test_a_disk_without_room_is_told_before(url, target, monkeypatch):
    usage = shutil.disk_usage(target.parents[1])
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DownloadError, match=r"is full: 1 MB are needed, 0 MB are free .*VDIFFSR_CACHE"):
        download(url, target)
    assert left(target) == []


def test_a_disk_that_fills_up_keeps_nothing(url, target, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_copy", full)
    with pytest.raises(DownloadError, match="is full"):
        download(url, target)
    assert left(target) == []
