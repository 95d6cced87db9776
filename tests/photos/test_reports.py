"""What users of such tools report, of single files: each made here, each with the right value."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zlib

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image, features

from vdiffsr_jax.data import photos
from vdiffsr_jax.photos import alpha, exif, icc, kinds, png, write
from vdiffsr_jax.photos.photo import ImageError, Photo
from vdiffsr_jax.photos.read import read, read_size


def pixels(dtype=np.uint8, shape=(12, 16, 3)):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def jpeg(path, about=b"", **options):
    Image.fromarray(pixels()).save(path, "JPEG", **({"exif": about} if about else {}), **options)
    return path


def about(order, entries):
    """EXIF of text tags and an orientation, written by hand."""
    texts = {tag: exif.Value(2, value) for tag, value in entries.items() if isinstance(value, bytes)}
    tags = texts | {274: exif.Value(3, struct.pack(order + "H", entries[274]))}
    return exif._file(tags, order)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("big", [False, True])
def test_tiff_of_every_byte_order_and_size_is_turned(tmp_path, order, dtype, big):
    path = tmp_path / "a.tif"
    extra = [(274, 3, 1, 6), (315, 2, 0, "José".encode(), True), (270, 2, 0, b'{"shape": [12, 16, 3]}', True)]
    tifffile.imwrite(
        path, pixels(dtype), photometric="rgb", bigtiff=big, byteorder=order, metadata=None, extratags=extra
    )
    photo = read(path)
    np.testing.assert_array_equal(photo.color, np.rot90(pixels(dtype), -1))
    assert read_size(path) == (16, 12)
    assert photo.notes == ()
    assert "José".encode() in photo.exif
    assert b"shape" not in photo.exif
    np.testing.assert_array_equal(photos.decode(path), photo.rgb8())


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_texts_of_exif_are_kept_byte_for_byte(tmp_path, format):
    odd = {306: b"2024-01-02\0", 315: "José Müller\0".encode(), 33432: "日本\0".encode(), 270: b"\xff\xfe latin\0"}
    photo = read(jpeg(tmp_path / "a.jpg", about(">", odd | {274: 6})))
    assert photo.color.shape == (16, 12, 3)
    write.write(tmp_path / "b", photo, format)
    found = read(tmp_path / "b")
    assert found.color.shape == (16, 12, 3)
    assert found.notes == ()
    for text in odd.values():
        assert text in found.exif


def test_damaged_exif_is_named_and_warns_of_nothing(tmp_path):
    jpeg(tmp_path / "a.jpg", b"Exif\0\0II*\0\x08\0\0\0" + bytes(range(256)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (note,) = read(tmp_path / "a.jpg").notes
    assert "EXIF is damaged" in note


def interlaced_16():
    """A PNG of 16 bits in Adam7's seven passes."""
    values = pixels(np.uint16)
    raw = b""
    for top, left, down, right in ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2),
                                   (0, 1, 2, 2), (1, 0, 2, 1)):  # fmt: skip
        part = values[top::down, left::right].astype(">u2")
        raw += b"".join(b"\0" + row.tobytes() for row in part) if part.size else b""
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, 2, 0, 0, 1)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    return png.SIGNATURE + b"".join(png.chunk(*part) for part in parts), values


def test_interlaced_16_bits_are_read_in_silence(capfd, caplog):
    data, values = interlaced_16()
    np.testing.assert_array_equal(read(data).color, values)
    assert capfd.readouterr().err == ""
    assert not caplog.records


@pytest.mark.parametrize(("data", "options", "why"), [
    (np.zeros((8, 8), np.float32), {}, "float32"), (np.zeros((8, 8), np.int16), {}, "int16"),
    (np.zeros((8, 8), np.uint32), {}, "uint32"), (np.zeros((8, 8), np.uint16), {"bitspersample": 12}, "12-bit"),
])  # fmt: skip
def test_training_refuses_what_sampling_refuses(tmp_path, data, options, why):
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="minisblack", **options)
    with pytest.raises(ImageError, match=why):
        read(tmp_path / "a.tif")
    with pytest.raises(ImageError, match=why):
        photos.decode(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_training_sees_the_pixels_of_other_layouts(tmp_path, dtype):
    values = pixels(dtype)
    top = np.iinfo(dtype).max
    eight = np.rint(values / (top // 255)).astype(np.uint8)
    for name, data, options, want in (
        ("planar", np.moveaxis(values, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}, eight),
        ("white", top - values[..., 0], {"photometric": "miniswhite"}, np.repeat(eight[..., :1], 3, -1)),
        ("tiled", values, {"photometric": "rgb", "tile": (16, 16), "compression": "lzw"}, eight),
        ("zstd", values, {"photometric": "rgb", "compression": "zstd", "byteorder": ">"}, eight),
    ):
        tifffile.imwrite(tmp_path / name, data, **options)
        np.testing.assert_array_equal(photos.decode(tmp_path / name), want, err_msg=name)


def test_a_hidden_key_of_16_bits_lies_on_white_in_training():
    values = pixels(np.uint16)
    coded = imagecodecs.png_encode(values)
    key = png.chunk(b"tRNS", struct.pack(">3H", *values[3, 4].tolist()))
    assert photos.decode(coded[:33] + key + coded[33:])[3, 4].tolist() == [255, 255, 255]


def test_training_needs_neither_tifffile_nor_imagecodecs():
    code = (
        "import io, sys\nsys.modules['tifffile'] = sys.modules['imagecodecs'] = None\n"
        "from PIL import Image\nfrom vdiffsr_jax.data import photos, pipeline\n"
        "from vdiffsr_jax.photos.photo import ImageError\n"
        "b = io.BytesIO(); Image.new('RGB', (8, 8)).save(b, 'JPEG'); assert photos.decode(b.getvalue()).any() == 0\n"
        "b = io.BytesIO(); Image.new('RGB', (8, 8)).save(b, 'TIFF')\n"
        "try: photos.decode(b.getvalue())\nexcept ImageError as e: print(e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "needs the package tifffile, as every TIFF does (pip install tifffile)\n"


def disc(size, hidden, dtype=np.uint8):
    """An anti-aliased disc of (200, 60, 90); `hidden`: the colour where nothing is seen."""
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    opacity = np.rint(np.clip(size / 3 - np.hypot(x, y) + 0.5, 0, 1) * 255).astype(np.uint8)
    color = np.where(opacity[..., None] > 0, np.uint8([200, 60, 90]), np.uint8(hidden))
    scale = np.iinfo(dtype).max // 255
    return color.astype(dtype) * dtype(scale), opacity.astype(dtype) * dtype(scale)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("hidden", [(0, 0, 0), (255, 0, 255)])
def test_a_cut_out_is_ideal_on_white_grey_and_black(dtype, hidden):
    color, opacity = disc(37, hidden, dtype)
    filled = alpha.fill_hidden(color, opacity)
    np.testing.assert_array_equal(filled[opacity > 0], color[opacity > 0])
    big = np.stack([Image.fromarray(np.rint(filled[..., c] / (np.iinfo(dtype).max / 255)).astype(np.uint8)).resize(
        (148, 148), Image.Resampling.BICUBIC) for c in range(3)], -1)  # fmt: skip
    seen = alpha.resize(opacity, 148, 148) / np.iinfo(dtype).max
    for paper in (255, 128, 0):
        ideal = seen[..., None] * [200, 60, 90] + (1 - seen[..., None]) * paper
        assert np.abs(seen[..., None] * big + (1 - seen[..., None]) * paper - ideal).max() <= 8
    y, x = np.mgrid[:148, :148] - 73.5
    assert (seen[np.hypot(x, y) > 148 / 3 + 12] == 0).all()
    assert (seen[np.hypot(x, y) < 148 / 3 - 12] == 1).all()


def test_alpha_of_a_hard_edge_falls_once():
    step = np.repeat(np.uint8([[0, 0, 0, 0, 255, 255, 255, 255]]), 8, axis=0)
    for row in alpha.resize(step, 32, 32).astype(int):
        assert (np.diff(row) >= 0).all()
        assert {row[0], row[-1]} == {0, 255}
    everything = np.zeros((4, 4, 3), np.uint8)
    assert alpha.fill_hidden(everything, np.zeros((4, 4), np.uint8)) is everything


def described_png():
    buffer = io.BytesIO()
    Image.fromarray(pixels()).save(buffer, "PNG")
    data = buffer.getvalue()
    told = Photo(pixels(), xmp=b'<x:xmpmeta tiff:Orientation="6"/>', density=(300, 300))
    chunks = [(b"gAMA", struct.pack(">I", 100000)), (b"cICP", b"\x09\x10\0\x01"), (b"tEXt", b"parameters\0a cat"),
              *png.told(told, None)]  # fmt: skip
    return data[:33] + b"".join(png.chunk(*c) for c in chunks) + data[33:]


def test_png_keeps_colours_texts_xmp_and_density_and_others_say_what_they_drop(tmp_path):
    photo = read(described_png())
    assert photo.color.shape == (16, 12, 3)  # XMP alone says how it lies
    assert write.write(tmp_path / "a.png", photo, "png") == ()
    again = read(tmp_path / "a.png")
    assert again.chunks == photo.chunks
    assert [name for name, _ in again.chunks] == [b"gAMA", b"cICP", b"tEXt"]
    for format in ("jpeg", "webp", "tiff"):
        notes = write.write(tmp_path / "b", photo, format)
        found = read(tmp_path / "b")
        assert found.xmp == b'<x:xmpmeta tiff:Orientation="1"/>'
        assert np.round(found.density).tolist() == [300, 300]
        assert sum("gAMA" in note for note in notes) == sum("parameters" in note for note in notes) == 1


@pytest.mark.parametrize("source", ["jpeg", "tiff", "bmp"])
@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff", "bmp"])
def test_density_goes_through_unchanged_and_none_is_made_up(tmp_path, source, format):
    for density in ((300, 300), None):
        Image.fromarray(pixels()).save(tmp_path / "a", source, **({"dpi": density} if density else {}))
        photo = read(tmp_path / "a")
        if density is None and source != "bmp":  # where Pillow writes 96
            assert photo.density is None
        write.write(tmp_path / "b", photo, format)
        found = read(tmp_path / "b").density
        assert (found and np.round(found).tolist()) == (photo.density and np.round(photo.density).tolist())


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff", "bmp"])
@pytest.mark.parametrize("density", [2.54e6, 1.2e8, 4.2e9])
def test_a_density_beyond_the_format_is_dropped_and_said(tmp_path, format, density):
    """A microscope's 10 nm a pixel, and more: not in the end, after all the work, and not as another number."""
    notes = write.write(tmp_path / "a", Photo(pixels(), density=(density, density)), format)
    found = read(tmp_path / "a").density
    if notes:
        assert f"{format} has no room for {density:g} x {density:g} pixels an inch: dropped" in notes
        assert found is None
    else:
        np.testing.assert_allclose(found, density, rtol=1e-3)


def grey_profile():
    """A real one of grey: a header, a white point and a gamma."""
    curve = b"curv" + bytes(4) + struct.pack(">IH", 1, 0x01CD) + bytes(2)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    text = b"desc" + bytes(4) + struct.pack(">I", 2) + b"g\0" + bytes(78)
    parts, place, table, body = ((b"desc", text), (b"wtpt", white), (b"kTRC", curve)), 128 + 4 + 36, b"", b""
    for name, data in parts:
        data += bytes(-len(data) % 4)
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data
    tail = struct.pack(">I", len(parts)) + table + body
    head = struct.pack(">I4sI4s4s4s", 128 + len(tail), b"lcms", 0x02100000, b"mntr", b"GRAY", b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + tail


def test_grey_with_a_profile_of_grey(tmp_path):
    assert icc.space(grey_profile()) == "GRAY"
    Image.fromarray(pixels()[..., 0]).save(tmp_path / "a.jpg", icc_profile=grey_profile())
    photo = read(tmp_path / "a.jpg")
    assert (photo.grey, photo.icc) == (True, grey_profile())
    (note,) = write.write(tmp_path / "b.webp", photo, "webp", quality=100)
    assert "no grey" in note
    found = read(tmp_path / "b.webp")
    assert icc.space(found.icc or icc.srgb()) == "RGB"
    assert write.write(tmp_path / "c.png", photo, "png") == ()
    assert read(tmp_path / "c.png").icc == grey_profile()


def test_a_profile_of_other_colours_is_dropped_and_named(tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "a.png", icc_profile=grey_profile())
    photo = read(tmp_path / "a.png")
    assert photo.icc is None
    assert "for GRAY" in photo.notes[0]


def test_several_pages_are_told_once(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([pixels(), pixels()]), photometric="rgb")
    assert read(tmp_path / "a.tif").notes == ("only the first of its pages is used",)


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_is_read(tmp_path):
    Image.new("RGB", (16, 12), (10, 200, 30)).save(tmp_path / "a.avif", quality=95)
    assert np.abs(read(tmp_path / "a.avif").color.astype(int) - [10, 200, 30]).max() < 6


@pytest.mark.skipif(".heic" not in kinds.SUFFIXES, reason="pillow-heif is not installed (pip install '.[heic]')")
def test_heic_is_read(tmp_path):
    kinds.pillow_formats()  # registers it for Pillow, here to write one
    exif_of = Image.Exif()
    exif_of[315] = "José"
    Image.new("RGB", (16, 12), (10, 200, 30)).save(tmp_path / "a.heic", "HEIF", quality=95, exif=exif_of)
    photo = read(tmp_path / "a.heic")
    assert photo.color.shape == (12, 16, 3)
    assert read_size(tmp_path / "a.heic") == (12, 16)
    assert np.abs(photo.color.astype(int) - [10, 200, 30]).max() < 6
    assert b"Jos" in photo.exif
    with pytest.raises(ImageError):
        read((tmp_path / "a.heic").read_bytes()[:-100])


def test_what_cannot_be_written_is_refused_before_the_work(tmp_path):
    with pytest.raises(ImageError, match="16400 x 8 pixels are more than webp holds"):
        write.check(tmp_path / "a.webp", 8, 16400, "webp")
    long = tmp_path / ("日" * 83 + ".png")
    write.check(long, 8, 8, "png")
    write.write(long, Photo(pixels()), "png")  # whose temporary name is short
    assert [p.name for p in tmp_path.iterdir()] == [long.name]
    with pytest.raises(ImageError, match="256 bytes; 255 are the most"):
        write.check(tmp_path / ("日" * 83 + "_x4.png"), 8, 8, "png")
