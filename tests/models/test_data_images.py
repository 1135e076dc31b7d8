# SPDX-License-Identifier: Apache-2.0
"""Reading and resizing image files of any format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("PIL")

from fake_data import make_image, save
from PIL import Image

from ssad_models.data.images import (
    DataError,
    read_image,
    read_mask,
    resize,
    resize_mask,
)

COLOUR = make_image(0, 32)[0][:24]  # taller images would hide swapped axes
GREY = COLOUR[..., 0]


def write(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def test_colour_and_grey(tmp_path: Path) -> None:
    colour, grey = save(tmp_path / "colour.png", COLOUR), save(tmp_path / "grey.png", GREY)
    read = read_image(colour, 3)
    assert read.dtype == torch.uint8
    assert torch.equal(read, torch.from_numpy(COLOUR).permute(2, 0, 1))
    luma = torch.from_numpy(COLOUR @ np.array([0.299, 0.587, 0.114]))
    torch.testing.assert_close(read_image(colour, 1)[0].double(), luma, atol=0.51, rtol=0)
    assert torch.equal(read_image(grey, 1)[0], torch.from_numpy(GREY))
    assert torch.equal(read_image(grey, 3), torch.from_numpy(GREY).expand(3, -1, -1))


@pytest.mark.parametrize("suffix", ["bmp", "ppm", "tif", "webp", "gif", "jpg"])
def test_formats(tmp_path: Path, suffix: str) -> None:
    options = {"webp": {"lossless": True}, "jpg": {"quality": 100, "subsampling": 0}}
    image = Image.fromarray(GREY if suffix == "gif" else COLOUR)
    read = read_image(write(image, tmp_path / f"image.{suffix}", **options.get(suffix, {})), 3)
    expected = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    difference = (read.int() - expected.int()).abs().double().mean()
    assert difference < (1 if suffix == "jpg" else 1e-9)


def test_palette_and_transparency_are_dropped(tmp_path: Path) -> None:
    opaque = Image.fromarray(COLOUR).quantize(16)
    expected = torch.from_numpy(np.array(opaque.convert("RGB"))).permute(2, 0, 1)
    palette = write(opaque, tmp_path / "p.png", transparency=bytes(range(16)))
    assert torch.equal(read_image(palette, 3), expected)
    alpha = Image.fromarray(np.dstack([COLOUR, np.zeros_like(GREY)]))
    assert torch.equal(
        read_image(write(alpha, tmp_path / "rgba.png"), 3),
        torch.from_numpy(COLOUR).permute(2, 0, 1),
    )
    grey = Image.fromarray(np.dstack([GREY, GREY // 2]))
    assert torch.equal(read_image(write(grey, tmp_path / "la.png"), 1)[0], torch.from_numpy(GREY))


def test_cmyk_and_one_bit(tmp_path: Path) -> None:
    cmyk = Image.fromarray(COLOUR).convert("CMYK")
    read = read_image(write(cmyk, tmp_path / "cmyk.tif"), 3)
    assert torch.equal(read, torch.from_numpy(np.array(cmyk.convert("RGB"))).permute(2, 0, 1))
    bits = Image.fromarray(GREY > 100)
    assert read_image(write(bits, tmp_path / "bits.png"), 1).unique().tolist() == [0, 255]


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bits_keep_their_scale(tmp_path: Path, suffix: str) -> None:
    deep = np.linspace(0, 65535, 24 * 32).round().astype(np.uint16).reshape(24, 32)
    read = read_image(write(Image.fromarray(deep), tmp_path / f"deep.{suffix}"), 1)
    assert torch.equal(read[0], torch.from_numpy((deep / 257).round().astype(np.uint8)))
    assert (read_image(tmp_path / f"deep.{suffix}", 3) == read).all()


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_more_than_16_bits_are_refused(tmp_path: Path, dtype: type) -> None:
    path = write(Image.fromarray(np.full((4, 4), 70000, dtype)), tmp_path / "deep.tif")
    with pytest.raises(DataError, match=r"deep\.tif: .* 32 bits per channel.*convert"):
        read_image(path, 1)


def test_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    path = write(Image.fromarray(COLOUR), tmp_path / "turned.png", exif=exif)
    upright = torch.from_numpy(np.rot90(COLOUR, -1).copy()).permute(2, 0, 1)
    assert torch.equal(read_image(path, 3), upright)


@given(data=st.data())
def test_damaged_files_are_one_kind_of_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    suffix = data.draw(st.sampled_from(["png", "tif", "bmp", "gif", "jpg", "webp"]))
    path = write(Image.fromarray(GREY), folder / f"x.{suffix}")
    content = bytearray(path.read_bytes())
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255)), max_size=4)
    ):
        content[at] = value
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    message = ""
    try:
        assert read_image(path, 1).dtype == torch.uint8  # not all damage shows
    except DataError as error:
        message = str(error)
    assert not message or str(path) in message


def test_errors_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent <b>\.png: no such file"):
        read_image(tmp_path / "absent <b>.png", 1)
    text = tmp_path / "text.png"
    text.write_text("not an image")
    with pytest.raises(DataError, match=r"text\.png: must be an image that can be read"):
        read_mask(text)
    with pytest.raises(ValueError, match="`channels` must be 1 or 3, got 2"):
        read_image(text, 2)


def test_masks(tmp_path: Path) -> None:
    mask = np.zeros((24, 32), np.uint8)
    mask[4:9, 6:20] = 1
    expected = torch.from_numpy(mask > 0)[None]
    for image in (
        Image.fromarray(mask),
        Image.fromarray(mask * 255),
        Image.fromarray(mask > 0),
        Image.fromarray(mask.astype(np.uint16)),
        Image.fromarray(np.stack([mask * 0, mask, mask * 0], 2)),
        Image.fromarray(np.dstack([mask, mask, mask, mask * 0 + 255])),
        Image.fromarray(np.dstack([mask, mask * 0 + 255])),
        Image.fromarray(mask).convert("P"),
    ):
        assert torch.equal(read_mask(write(image, tmp_path / "mask.png")), expected)
    for mode in ("P", "PA"):  # colours count, not their numbers
        inverse = Image.fromarray(1 - mask).convert("P")
        inverse.putpalette([255, 255, 255, 0, 0, 0])
        path = write(inverse.convert(mode), tmp_path / f"{mode}.{'png' if mode == 'P' else 'tif'}")
        assert torch.equal(read_mask(path), expected)
    noisy = np.where(mask, 250, 5).astype(np.uint8)
    jpeg = write(Image.fromarray(noisy), tmp_path / "mask.JPG", quality=95)
    assert torch.equal(read_mask(jpeg), expected)


def test_resize() -> None:
    image = torch.from_numpy(COLOUR).permute(2, 0, 1)
    assert resize(image[:, :24, :24], 24).equal(image[:, :24, :24])
    half = resize(image, 12)
    assert half.shape == (3, 12, 12)
    assert half.dtype == torch.uint8
    pil = np.array(Image.fromarray(COLOUR).resize((12, 12), Image.Resampling.BILINEAR))
    assert (half.permute(1, 2, 0).int() - torch.from_numpy(pil).int()).abs().max() <= 1


@given(side=st.integers(1, 40), size=st.integers(1, 40), at=st.integers(0, 1599))
def test_no_part_of_a_mask_vanishes(side: int, size: int, at: int) -> None:
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask.view(-1)[at % (side * side)] = True
    small = resize_mask(mask, size)
    assert small.shape == (1, size, size)
    assert small.any()
    assert small.sum() <= (size // side + 2) ** 2
