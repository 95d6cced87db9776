"""Every photo format in and out; every bad file is named for what it is."""

from __future__ import annotations

import errno
import io
import os
import struct
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from vdiffsr_jax.photos.kinds import EXTENSIONS
from vdiffsr_jax.photos.photo import ImageError, Photo, upright
from vdiffsr_jax.photos.read import read, read_size
from vdiffsr_jax.photos.write import write

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
DATE, WIDTH = 0x9003, 0xA002


def values(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def exif(orientation=1):
    tags = Image.Exif()
    tags[0x10F], tags[0x112], tags[306], tags[33432] = "Maker", orientation, "2020:02:03 04:05:06", "Me"
    tags.get_ifd(0x8769)[DATE] = "2020:02:03 04:05:06"
    tags.get_ifd(0x8769)[WIDTH] = 8
    tags.get_ifd(0x8825)[1] = "N"
    return tags


def check_exif(data, width):
    tags = Image.Exif()
    tags.load(data)
    assert (tags[0x10F], tags[306], tags[33432], tags.get(0x112)) == ("Maker", "2020:02:03 04:05:06", "Me", None)
    assert tags.get_ifd(0x8769)[DATE] == "2020:02:03 04:05:06"
    assert tags.get_ifd(0x8769)[WIDTH] == width
    assert tags.get_ifd(0x8825)[1] == "N"


@pytest.mark.parametrize("format", EXTENSIONS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("has_alpha", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_round_trip(tmp_path, format, dtype, has_alpha, grey):
    color = values((6, 7, 3), dtype)
    if grey:
        color = np.repeat(color[..., :1], 3, axis=-1)
    alpha = values((6, 7), dtype, seed=1) if has_alpha else None
    path = tmp_path / f"photo{EXTENSIONS[format]}"
    notes = write(path, Photo(color, alpha, grey, exif().tobytes(), SRGB), format, quality=100)
    found = read(path)

    keeps_depth = dtype == np.uint8 or format in ("png", "tiff")
    keeps_alpha = not has_alpha or format not in ("jpeg", "bmp")
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert (len(notes) == 0) == (keeps_depth and keeps_alpha and format != "bmp")
    assert found.depth == (np.dtype(dtype).itemsize * 8 if keeps_depth else 8)
    assert (found.alpha is not None) == (has_alpha and keeps_alpha)
    assert found.grey == (grey and format != "webp")
    if format != "bmp":
        assert found.icc == SRGB
        check_exif(found.exif, 7)
    if keeps_depth and keeps_alpha and format != "jpeg":
        np.testing.assert_array_equal(found.color, color)
        if has_alpha:
            np.testing.assert_array_equal(found.alpha, alpha)
    else:
        assert found.color.shape == color.shape


def test_rounding_to_8_bits_and_flattening_on_white(tmp_path):
    color = np.array([[[65535, 0, 32767], [257, 128, 129]]], np.uint16)
    notes = write(tmp_path / "a.bmp", Photo(color, np.array([[65535, 0]], np.uint16)), "bmp")
    assert read(tmp_path / "a.bmp").color.tolist() == [[[255, 0, 127], [255, 255, 255]]]
    assert len(notes) == 2
    write(tmp_path / "b.bmp", Photo(color), "bmp")
    assert read(tmp_path / "b.bmp").color[0, 1].tolist() == [1, 0, 1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "tiff", "tiff16", "palette", "jpeg in tiff"])
def test_orientation_is_applied_once(tmp_path, orientation, kind):
    scene = np.zeros((16, 24, 3), np.uint8)
    scene[:8, :8], scene[:8, 16:], scene[8:, :8] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    inverse = {6: 8, 8: 6}.get(orientation, orientation)
    stored = np.ascontiguousarray(upright(scene, inverse))
    path = tmp_path / "photo"
    if kind == "tiff16":
        tifffile.imwrite(path, stored.astype(np.uint16) * 257, photometric="rgb", extratags=[(274, 3, 1, orientation)])
    elif kind == "palette":
        Image.fromarray(stored).quantize(4).save(path, "tiff", tiffinfo={274: orientation})
    elif kind == "jpeg in tiff":
        Image.fromarray(stored).save(path, "tiff", compression="jpeg", quality=100, tiffinfo={274: orientation})
    else:
        Image.fromarray(stored).save(path, kind, exif=exif(orientation), quality=100, subsampling=0)
    photo = read(path)
    assert read_size(path) == scene.shape[:2]
    found = photo.color // 257 if kind == "tiff16" else photo.color
    assert np.abs(found.astype(int) - scene).max() <= (60 if kind.startswith("jpeg") else 0)
    write(tmp_path / "again.png", photo, "png")
    np.testing.assert_array_equal(read(tmp_path / "again.png").color, photo.color)


@pytest.mark.parametrize(("told", "turned"), [(1, False), (None, True), (9, True)])
def test_xmp_turns_a_photo_only_where_exif_says_nothing(tmp_path, told, turned):
    stale = b'<x:xmpmeta tiff:Orientation="6"/>'
    about = {} if told is None else {"exif": exif(told)}
    Image.new("RGB", (24, 16)).save(tmp_path / "a.jpg", xmp=stale, **about)
    assert read_size(tmp_path / "a.jpg") == ((24, 16) if turned else (16, 24))
    assert read(tmp_path / "a.jpg").color.shape[:2] == ((24, 16) if turned else (16, 24))


def test_upright_agrees_with_the_exif_standard():
    pixels = np.arange(6).reshape(2, 3)
    turned = {6: np.rot90(pixels, -1), 8: np.rot90(pixels), 3: np.rot90(pixels, 2), 2: pixels[:, ::-1]}
    for orientation, expected in turned.items():
        np.testing.assert_array_equal(upright(pixels, orientation), expected)
    np.testing.assert_array_equal(upright(pixels, 5), pixels.T)


def test_palettes_and_colour_keys(tmp_path):
    pixels = values((5, 6, 3)) // 64 * 64
    palette = Image.fromarray(pixels).quantize(16)
    palette.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png").color, np.asarray(palette.convert("RGB")))
    assert read(tmp_path / "a.png").alpha is None
    index = int(np.asarray(palette)[0, 0])
    palette.save(tmp_path / "b.png", transparency=index)
    np.testing.assert_array_equal(read(tmp_path / "b.png").alpha == 0, np.asarray(palette) == index)
    Image.fromarray(pixels).save(tmp_path / "c.png", transparency=tuple(int(v) for v in pixels[0, 0]))
    np.testing.assert_array_equal(read(tmp_path / "c.png").alpha == 0, (pixels == pixels[0, 0]).all(-1))
    Image.fromarray(values((5, 6)) > 100).save(tmp_path / "d.png")
    photo = read(tmp_path / "d.png")
    assert photo.grey
    np.testing.assert_array_equal(photo.color[..., 0], np.where(values((5, 6)) > 100, 255, 0))


def test_16_bit_colour_key_and_tiff_layouts(tmp_path):
    pixels = values((5, 6, 3), np.uint16)
    png = imagecodecs.png_encode(pixels)
    key = struct.pack(">3H", *pixels[2, 3].tolist())
    (tmp_path / "key.png").write_bytes(png[:33] + chunk(b"tRNS", key) + png[33:])
    photo = read(tmp_path / "key.png")
    np.testing.assert_array_equal(photo.color, pixels)
    assert np.argwhere(photo.alpha == 0).tolist() == [[2, 3]]

    for name, data, options in [
        ("planar", np.moveaxis(pixels, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
        ("big", pixels, {"photometric": "rgb", "bigtiff": True}),
        ("order", pixels, {"photometric": "rgb", "byteorder": ">"}),
        ("lzw", pixels, {"photometric": "rgb", "compression": "lzw", "predictor": True}),
        ("tiled", pixels, {"photometric": "rgb", "tile": (16, 16)}),
    ]:
        tifffile.imwrite(tmp_path / name, data, **options)
        np.testing.assert_array_equal(read(tmp_path / name).color, pixels, err_msg=name)
    tifffile.imwrite(tmp_path / "white", 65535 - pixels[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(read(tmp_path / "white").color[..., 1], pixels[..., 0])
    tifffile.imwrite(tmp_path / "pages", np.stack([pixels, pixels // 2]), photometric="rgb")
    assert "first of its pages" in read(tmp_path / "pages").notes[0]
    alpha = np.full((5, 6, 1), 32768, np.uint16)
    premultiplied = np.concatenate([np.rint(pixels * (alpha / 65535)).astype(np.uint16), alpha], -1)
    tifffile.imwrite(tmp_path / "premultiplied", premultiplied, photometric="rgb", extrasamples=["assocalpha"])
    assert np.abs(read(tmp_path / "premultiplied").color.astype(int) - pixels).max() <= 1


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_transparent_grey_of_few_bits(tmp_path, bits):
    top = 2**bits - 1
    rows = bytes([0, top << (8 - bits)]) + bytes([0, 0])  # two rows of one pixel: white, black
    header = struct.pack(">IIBBBBB", 1, 2, bits, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"tRNS", struct.pack(">H", top)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    photo = read(tmp_path / "a.png")
    assert photo.color[:, 0, 0].tolist() == [255, 0]
    assert photo.alpha[:, 0].tolist() == [0, 255]


def test_a_tiff_whose_width_is_no_count_is_refused(tmp_path):
    """Its width as a signed number: the limit of size must see what the decoder sees."""
    tifffile.imwrite(tmp_path / "a.tif", values((4, 4, 3)), photometric="rgb")
    data = bytearray((tmp_path / "a.tif").read_bytes())
    place = data.index(struct.pack("<HH", 256, 4))
    data[place : place + 12] = struct.pack("<HHIi", 256, 9, 1, 4)
    (tmp_path / "a.tif").write_bytes(data)
    for reader in (read, read_size):
        with pytest.raises(ImageError, match="says nothing of its size"):
            reader(tmp_path / "a.tif")


def test_exif_whose_values_share_their_bytes_costs_no_more_than_it_has(tmp_path):
    count = 1000
    entries = b"".join(struct.pack("<HHII", 0x9000 + i, 7, 12 * count, 8) for i in range(count))
    data = b"Exif\0\0II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + bytes(4)
    Image.new("RGB", (4, 4)).save(tmp_path / "a.jpg", exif=data)
    photo = read(tmp_path / "a.jpg")
    assert "a part of its EXIF is damaged and was dropped" in photo.notes
    assert len(photo.exif or b"") < 2 * len(data)


def test_cmyk_is_converted(tmp_path):
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red.save(tmp_path / "plain.jpg", quality=100)
    photo = read(tmp_path / "plain.jpg")
    assert "no profile" in photo.notes[0]
    assert np.abs(photo.color.astype(int) - [255, 0, 0]).max() < 8
    red.save(tmp_path / "bad.tif", icc_profile=b"not a profile at all" * 20)
    assert "unusable" in read(tmp_path / "bad.tif").notes[0]


def test_damaged_exif_does_not_cost_the_picture(tmp_path):
    Image.fromarray(values((8, 8, 3))).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01")
    photo = read(tmp_path / "a.png")
    np.testing.assert_array_equal(photo.color, values((8, 8, 3)))


def encoded(format, **options):
    buffer = io.BytesIO()
    Image.fromarray(values((40, 50, 3))).save(buffer, format, **options)
    return buffer.getvalue()


def chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb():
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def tiff16(shape=(40, 50, 3), dtype=np.uint16, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.zeros(shape, dtype), photometric="rgb", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello, this is no image at all, but a text", "is not a PNG"),
        (b"%PDF-1.7 something long enough to be a header", "is not a PNG"),
        (encoded("png")[:-3000], "truncated or damaged"),
        (encoded("png")[:30], "truncated or damaged|is not a PNG"),
        (encoded("jpeg")[:-800], "truncated or damaged"),
        (encoded("webp")[:-800], "truncated or damaged|is not a PNG"),
        (encoded("bmp")[:-3000], "truncated or damaged"),
        (encoded("tiff")[:-3000], "truncated or damaged"),
        (tiff16()[:-3000], "truncated or damaged"),
        (tiff16(compression="zlib")[:-20], "truncated or damaged"),
        (imagecodecs.png_encode(values((40, 50, 3), np.uint16))[:-5000], "truncated or damaged"),
        (bomb(), "3600 megapixels"),
        (tiff16((40, 50, 3), np.float32), "float32"),
        (tiff16((4, 5, 3), np.uint32), "uint32"),
    ],
    ids=lambda v: f"{v[:4]!r}{len(v)}" if isinstance(v, bytes) else "",
)
def test_bad_files_are_named_for_what_they_are(tmp_path, content, message):
    (tmp_path / "photo.png").write_bytes(content)
    with pytest.raises(ImageError, match=message):
        read(tmp_path / "photo.png")


def test_the_limit_of_size_counts_pixels(tmp_path):
    Image.fromarray(values((40, 50, 3))).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"0 megapixels; the limit is 0.001999$"):
        read(tmp_path / "a.png", max_pixels=1999)
    with pytest.raises(ImageError, match=r"0.001999 \(--its_flag\)$"):
        read(tmp_path / "a.png", max_pixels=1999, hint="--its_flag")
    assert read(tmp_path / "a.png", max_pixels=2000).color.shape == (40, 50, 3)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(ImageError, match="cannot be read"):
        read(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="cannot be read"):
        read(tmp_path)


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ImageError, match="disk is full"):
        write(tmp_path / "a.png", Photo(values((4, 4, 3))), "png")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ImageError, match="cannot be written"):
        write(tmp_path / "file" / "a.png", Photo(values((4, 4, 3))), "png")


def test_sizes_no_format_can_hold_are_refused(tmp_path):
    with pytest.raises(ImageError, match="use --format png"):
        write(tmp_path / "a.webp", Photo(np.zeros((1, 16384, 3), np.uint8)), "webp")
