from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.data.conftest import coordinates, noise, save
from vdiffsr_jax.data.config import DataConfig
from vdiffsr_jax.data.crops import Crops
from vdiffsr_jax.data.photos import Broken, DataError
from vdiffsr_jax.data.sources import Collection


def crops(folder: Path, broken: Broken | None = None, lr: Path | None = None, **settings) -> Crops:
    cfg = DataConfig(sources=(str(folder),), **{"crop_size": 32, "degradation": "none", "flips": False, **settings})
    return Crops(cfg, cfg.sources, (str(lr),) if lr else (), broken or Broken(), 2**20)


def test_photos_are_drawn_by_area_and_small_ones_left_out(folder: Path):
    source = crops(folder)
    assert (len(source), source.too_small) == (2, 1)
    rng = np.random.default_rng(0)
    drawn = [source.draw(rng)[0] for _ in range(500)]
    share = np.mean([crop[0, 0, 0] for crop in drawn])
    assert abs(share - 9600 / 12000) < 0.06
    tops = {int(crop[0, 0, 1]) for crop in drawn if crop[0, 0, 0] == 0}
    assert tops == set(range(40 - 32 + 1))  # every place, both borders too


def test_a_crop_is_a_piece_of_its_photo(folder: Path):
    rng = np.random.default_rng(1)
    for _ in range(20):
        crop = crops(folder).draw(rng)[0]
        photo, top, left = (int(v) for v in crop[0, 0])
        whole = coordinates(photo, *((40, 60), (120, 80))[photo])
        np.testing.assert_array_equal(crop, whole[top : top + 32, left : left + 32])


def test_flips_reach_all_four_and_only_when_asked(folder: Path):
    rng = np.random.default_rng(2)

    def seen(**settings) -> set[tuple[bool, bool]]:
        drawn = [crops(folder, **settings).draw(rng)[0] for _ in range(30)]
        return {(bool(c[0, 0, 1] > c[-1, 0, 1]), bool(c[0, 0, 2] > c[0, -1, 2])) for c in drawn}

    assert seen() == {(False, False)}
    assert seen(flips=True) == {(False, False), (False, True)}
    assert len(seen(flips=True, vertical_flips=True)) == 4


def test_margin_surrounds_the_crop_as_far_as_the_photo_goes(folder: Path):
    rng, source = np.random.default_rng(3), crops(folder)
    sizes, starts = set(), set()
    for _ in range(200):
        region, _, start = source.draw(rng, margin=16)
        sizes.add(region.shape[:2])
        starts.add(start)
        assert all(s % 4 == 0 and s + 32 <= n for s, n in zip(start, region.shape[:2], strict=True))
    assert sizes == {(40, 48), (48, 48)}
    assert {top for top, _ in starts} == {0, 4, 8, 12, 16}


def test_shrink_takes_more_of_the_photo_and_stops_at_its_border(folder: Path):
    rng, source = np.random.default_rng(4), crops(folder, shrink=(1000, 1000))
    for _ in range(10):
        crop = source.draw(rng)[0].astype(int)
        assert crop.shape == (32, 32, 3)
        short = (40, 80)[crop[0, 0, 0]]
        assert abs(np.ptp(crop[..., 1]) - (short - short / 32)) <= 1


def test_the_most_detailed_candidate_is_kept(tmp_path: Path):
    photo = np.full((32, 320, 3), 128, np.uint8)
    photo[:, 160:] = noise(0, 32, 160)
    save(photo, tmp_path / "half.png")
    flat = [
        sum(np.ptp(crops(tmp_path, candidates=n).draw(np.random.default_rng(i))[0]) == 0 for i in range(60))
        for n in (1, 4)
    ]
    assert flat[1] < flat[0] / 3


def test_held_out_crops_are_the_centres_first(folder: Path):
    source = crops(folder, flips=True)
    centres = [source.held_out(i, np.random.default_rng(i))[0] for i in range(2)]
    assert [tuple(map(int, c[0, 0])) for c in centres] == [(0, 4, 14), (1, 44, 24)]
    assert int(source.held_out(2, np.random.default_rng(2))[0][0, 0, 0]) == 0


def test_no_photo_counts_twice_for_a_broken_neighbour(tmp_path: Path):
    for n in range(6):
        save(coordinates(n, 128, 128), tmp_path / f"{n}.png")
    whole = (tmp_path / "2.png").read_bytes()
    (tmp_path / "2.png").write_bytes(whole[: len(whole) // 2])  # its header is good
    source = crops(tmp_path)
    once, again = ([source.held_out(i, np.random.default_rng(i))[0] for i in range(600)] for _ in range(2))
    np.testing.assert_array_equal(once, again)
    assert [int(c[0, 0, 0]) for c in once[:6] if tuple(c[0, 0, 1:]) == (48, 48)] == [0, 1, 3, 4, 5]
    counts = np.bincount([c[0, 0, 0] for c in once], minlength=6)
    assert counts[2] == 0
    assert abs(np.delete(counts, 2) - 120).max() < 16


def test_broken_photos_are_skipped_named_once_and_change_no_other_draw(tmp_path: Path, caplog):
    for n in range(4):
        save(noise(n, 64, 64), tmp_path / f"{n}.jpg")
    whole = (tmp_path / "1.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(whole[: len(whole) // 2])  # its header is good
    (tmp_path / "2.jpg").write_bytes(b"nothing")
    broken = Broken()
    with caplog.at_level(logging.WARNING):
        source = crops(tmp_path, broken)
        first = [source.draw(np.random.default_rng(i))[0] for i in range(30)]
    assert broken.count == 2
    messages = [record.getMessage() for record in caplog.records]
    assert sorted(m.split(": ")[0].split("/")[-1] for m in messages) == ["1.jpg", "2.jpg"]
    again = [crops(tmp_path).draw(np.random.default_rng(i))[0] for i in reversed(range(30))][::-1]
    np.testing.assert_array_equal(first, again)


def test_only_broken_photos_end_with_a_message(tmp_path: Path):
    save(noise(0, 64, 64), tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:2000])
    with pytest.raises(DataError, match="broken photos in a row"):
        crops(tmp_path).draw(np.random.default_rng(0))
    with pytest.raises(DataError, match="every held-out photo is broken"):
        crops(tmp_path).held_out(0, np.random.default_rng(0))


def test_too_small_photos_alone_are_refused(folder: Path):
    with pytest.raises(DataError, match=r"has 160 x 160 pixels: give larger ones or lower data.crop_size"):
        crops(folder, crop_size=160)


def test_list_files_hold_relative_paths_and_comments(folder: Path):
    (folder / "list.txt").write_text("# mine\na.png\n\ndeep/er/b.PNG\n")
    collection = Collection((str(folder / "list.txt"),), Broken())
    assert [Path(name).name for name in collection.names] == ["a.png", "b.PNG"]
    np.testing.assert_array_equal(collection.pixels(1), coordinates(1, 120, 80))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_list_files_of_other_editors_lose_no_photo(folder: Path, encoding: str, newline: str):
    bom = b"\xff\xfe" if encoding == "utf-16-le" else b""
    (folder / "list.txt").write_bytes(bom + newline.join(("a.png", "deep/er/b.PNG")).encode(encoding))
    names = Collection((str(folder / "list.txt"),), Broken()).names
    assert [Path(name).name for name in names] == ["a.png", "b.PNG"]


def test_a_list_of_paths_that_do_not_exist_says_so(folder: Path):
    (folder / "list.txt").write_text("\n".join(f"gone/{i}.png" for i in range(12)))
    with pytest.raises(DataError, match=r"12 of 12 paths do not exist, the first: .*gone/0\.png"):
        Collection((str(folder / "list.txt"),), Broken())
    (folder / "list.txt").write_bytes("é.png".encode("latin1"))
    with pytest.raises(DataError, match="is not text in UTF-8"):
        Collection((str(folder / "list.txt"),), Broken())


def test_two_sources_are_one_collection(folder: Path):
    collection = Collection((str(folder / "deep"), str(folder)), Broken())
    assert len(collection.names) == 4
    np.testing.assert_array_equal(collection.pixels(0), coordinates(1, 120, 80))
    np.testing.assert_array_equal(collection.pixels(3), coordinates(2, 31, 90))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", "is neither a folder, a list file"),
        ("empty", "holds no photos"),
        ("list.txt", "lists no photos"),
        ("gone.array_record", "cannot be read: .*No such file"),
    ],
)
def test_sources_that_hold_nothing_are_refused(tmp_path: Path, name: str, message: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.txt").write_text("# nothing\n")
    with pytest.raises(DataError, match=message):
        Collection((str(tmp_path / name),), Broken())


def pair_folders(tmp_path: Path, names: tuple[str, ...] = ("a", "sub/b")) -> tuple[Path, Path]:
    for n, name in enumerate(names):
        hr = noise(n, 64, 80)
        save(hr, tmp_path / f"hr/{name}.png")
        save(np.asarray(Image.fromarray(hr).reduce(4)), tmp_path / f"lr/{name}x4.png")
    return tmp_path / "hr", tmp_path / "lr"


def paired(hr: Path, lr: Path, **settings) -> Crops:
    cfg = DataConfig(sources=(str(hr),), lr_sources=(str(lr),), degradation="paired", crop_size=32, **settings)
    return Crops(cfg, cfg.sources, cfg.lr_sources, Broken(), 2**20)


def test_pairs_stay_aligned_through_crop_and_flip(tmp_path: Path):
    source = paired(*pair_folders(tmp_path), vertical_flips=True)
    for i in range(40):
        hr, lr, _ = source.draw(np.random.default_rng(i))
        np.testing.assert_array_equal(np.asarray(Image.fromarray(hr).reduce(4)), lr)


@pytest.mark.parametrize("half", ["hr", "lr"])
def test_two_photos_of_one_name_are_no_half_of_a_pair(tmp_path: Path, half: str):
    hr, lr = pair_folders(tmp_path)
    double = {"hr": hr, "lr": lr}[half]
    name = "ax4" if half == "lr" else "a"
    save(noise(9, 16, 20), double / f"{name}.jpg")
    sources = {"sources": (str(hr), str(hr)), "lr_sources": (str(lr), str(lr))}  # the same again is the same photo
    with pytest.raises(DataError, match=rf"{name}\.jpg and .*{name}\.png are both called '{name}'"):
        Crops(DataConfig(degradation="paired", crop_size=8, **sources), *sources.values(), Broken(), 2**20)
    (double / f"{name}.jpg").unlink()
    assert len(Crops(DataConfig(degradation="paired", crop_size=8, **sources), *sources.values(), Broken(), 2**20)) == 4


def test_a_missing_or_wrong_partner_is_named(tmp_path: Path):
    hr, lr = pair_folders(tmp_path)
    (lr / "sub/bx4.png").unlink()
    with pytest.raises(DataError, match=r"1 HR photos have no LR partner .*b\.png"):
        paired(hr, lr)
    save(noise(0, 17, 20), lr / "sub/b.png")
    with pytest.raises(DataError, match=r"b\.png has 20 x 17 pixels, but its HR partner 80 x 64: not 1/4"):
        paired(hr, lr)
