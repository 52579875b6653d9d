"""A folder of images: pixels against PIL's own, labels, the cache, and what is refused."""

import io
import logging
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

import betavae_jax.data.pictures as pictures_module
from betavae_jax.checks import InputError
from betavae_jax.data.folder import load_folder

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("BETAVAE_CACHE", str(folder))
    return folder


def pixels(height=16, width=16, channels=3):
    return RNG.integers(0, 256, (height, width, channels), np.uint8)


def save(path, image=None, **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels() if image is None else image
    image = PIL.Image.fromarray(image) if isinstance(image, np.ndarray) else image
    image.save(path, **settings)
    return np.asarray(image)


def images_of(folder, **settings):
    return load_folder(data_dir=folder, **{"image_size": 16, **settings}).train.arrays.images


def refuse(folder, *expected, **settings):
    with pytest.raises(InputError) as caught:
        load_folder(data_dir=folder, **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("expected ")
    for text in expected:
        assert re.search(text, message), (text, message)


def test_images_of_the_right_size_come_back_unchanged_in_sorted_order(tmp_path):
    expected = {name: save(tmp_path / name) for name in ("b.png", "a10.png", "a2.PNG")}
    splits = load_folder(data_dir=str(tmp_path), image_size=16)
    dataset = splits.train
    np.testing.assert_array_equal(
        dataset.arrays.images, [expected["a10.png"], expected["a2.PNG"], expected["b.png"]]
    )
    assert splits.test is None
    assert dataset.space is None
    index = jnp.array([2, 0])
    x = dataset.gather(dataset.arrays, index, jax.random.key(0))
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(
        x, np.stack([expected["b.png"], expected["a10.png"]]) / 255, atol=1e-7
    )
    assert dataset.factors(dataset.arrays, index).shape == (2, 0)
    assert all(type(leaf) is np.ndarray for leaf in dataset.arrays)


def test_sub_folders_are_labels(tmp_path):
    for name in ("dog/1.png", "cat/2.png", "cat/deeper/0.png", "cat-2/x.png"):
        save(tmp_path / name)
    dataset = load_folder(data_dir=tmp_path, image_size=8).train
    assert dataset.space == (("label",), (3,), False)
    # cat, cat/deeper, cat-2, dog: folder by folder, although "-" sorts before "/"
    assert dataset.arrays.factors.dtype == np.int32
    np.testing.assert_array_equal(dataset.arrays.factors, [[0], [0], [1], [2]])


@pytest.mark.parametrize("names", [["only/1.png"], ["a/b/1.png", "a/b/2.png"]])
def test_one_sub_folder_is_no_label(tmp_path, names):
    for name in names:
        save(tmp_path / name)
    assert load_folder(data_dir=tmp_path).train.space is None


def test_a_single_sub_folder_is_passed_through_to_the_labels(tmp_path):
    for name in ("flowers/rose/1.png", "flowers/daisy/1.png"):
        save(tmp_path / name)
    assert load_folder(data_dir=tmp_path).train.space.sizes == (2,)


@pytest.mark.parametrize("size", [(40, 16), (16, 41), (16, 16)])
def test_crop_keeps_the_middle_and_pad_the_whole(tmp_path, size):
    image = save(tmp_path / "a.png", pixels(*size))
    height, width = size
    top, left = (height - 16) / 2, (width - 16) / 2
    box = (left, top, left + 16, top + 16)
    expected = PIL.Image.fromarray(image).resize((16, 16), PIL.Image.Resampling.BICUBIC, box)
    np.testing.assert_array_equal(images_of(tmp_path)[0], expected)
    [padded] = images_of(tmp_path, image_fit="pad", image_size=2 * max(size))
    scaled = tuple(2 * n for n in (width, height))
    inner = PIL.Image.fromarray(image).resize(scaled, PIL.Image.Resampling.BICUBIC)
    top, left = max(size) - height, max(size) - width
    where = (slice(top, top + 2 * height), slice(left, left + 2 * width))
    np.testing.assert_array_equal(padded[where], inner)
    padded[where] = 0
    assert not padded.any()


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("size", [(1, 4000), (4000, 1), (1, 32), (9, 1000)])
def test_padding_leaves_a_line_of_the_thinnest(tmp_path, size, suffix):
    save(tmp_path / f"a{suffix}", np.full((*size, 3), 200, np.uint8))
    [padded] = images_of(tmp_path, image_fit="pad")
    lines = padded if size[0] < size[1] else padded.swapaxes(0, 1)
    bright = lines.any((1, 2))
    assert bright.sum() == 1
    np.testing.assert_allclose(lines[bright], 200, atol=1)


@pytest.mark.parametrize("image_fit", ["crop", "pad"])
def test_a_large_jpeg_is_drafted_without_harm(tmp_path, image_fit):
    """Decoding at a fraction of the size differs from decoding whole by a few grey levels."""
    ramp = np.linspace(0, 255, 400)
    image = np.stack([ramp[:, None] + 0 * ramp[:250], ramp[:250] + 0 * ramp[:, None]], -1)
    image = np.concatenate([image, 255 - image[..., :1]], -1).astype(np.uint8)
    save(tmp_path / "a.jpg", image, quality=95)
    whole = PIL.Image.open(tmp_path / "a.jpg")
    fit = {"crop": PIL.ImageOps.fit, "pad": PIL.ImageOps.pad}[image_fit]
    expected = np.asarray(fit(whole, (16, 16)), np.int16)
    difference = abs(images_of(tmp_path, image_fit=image_fit)[0] - expected)
    assert difference.max() <= 5
    assert difference.mean() < 1


def test_grey_and_colours_convert(tmp_path):
    image = save(tmp_path / "a.png")
    save(tmp_path / "b.png", image[..., 0])
    [colour, grey] = images_of(tmp_path, channels=1)
    assert colour.shape == (16, 16, 1)
    luma = image @ [0.299, 0.587, 0.114]  # ITU-R 601
    np.testing.assert_allclose(colour[..., 0], luma, atol=1)
    np.testing.assert_array_equal(grey[..., 0], image[..., 0])
    np.testing.assert_array_equal(images_of(tmp_path)[1], np.stack([image[..., 0]] * 3, -1))


def test_every_mode_of_image_is_read(tmp_path):
    base = PIL.Image.fromarray(pixels())
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        base.convert("L" if mode == "LA" else mode).convert(mode).save(tmp_path / f"{mode}.png")
    for mode in ("L", "RGB", "CMYK"):
        base.convert(mode).save(tmp_path / f"{mode}.jpeg")
    base.save(tmp_path / "x.webp", lossless=True)
    images = images_of(tmp_path)
    assert images.shape == (10, 16, 16, 3)
    np.testing.assert_array_equal(images[-1], base)
    assert set(np.unique(images[0])) == {0, 255}  # the image of bits


def test_transparent_pixels_are_black(tmp_path):
    image = np.concatenate([pixels(), np.full((16, 16, 1), 255, np.uint8)], -1)
    image[:8, :, 3] = 0
    save(tmp_path / "a.png", image)
    save(tmp_path / "b.webp", image, lossless=True)
    palette = PIL.Image.fromarray(np.tile(np.uint8([[0, 1]]), (16, 8)), "P")
    palette.putpalette([200, 100, 50, 1, 2, 3])
    save(tmp_path / "c.png", palette, transparency=bytes([0, 255]))
    for opaque in images_of(tmp_path)[:2]:
        assert not opaque[:8].any()
        np.testing.assert_array_equal(opaque[8:], image[8:, :, :3])
    np.testing.assert_array_equal(images_of(tmp_path)[2][0, :2], [[0, 0, 0], [1, 2, 3]])


def test_sixteen_bits_are_cut_to_eight(tmp_path):
    deep = RNG.integers(0, 2**16, (16, 16), np.uint16)
    save(tmp_path / "a.png", PIL.Image.fromarray(deep))
    np.testing.assert_array_equal(images_of(tmp_path, channels=1)[0, ..., 0], deep >> 8)


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_orientation_is_honoured(tmp_path, name):
    image = np.zeros((16, 16, 3), np.uint8)
    image[:8, :8] = 255  # bright at the top left
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # to be shown turned by a quarter, clockwise
    save(tmp_path / name, image, exif=exif)
    [turned] = images_of(tmp_path)
    np.testing.assert_allclose(turned, np.rot90(image, -1), atol=8)


def test_content_counts_not_the_suffix(tmp_path):
    image = save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(images_of(tmp_path)[0], image)


def test_hidden_and_other_files_are_left_alone(tmp_path):
    image = save(tmp_path / "a.png")
    for name in (".b.png", ".git/c.png", "__MACOSX/._d.png"):
        save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image\n")
    np.testing.assert_array_equal(images_of(tmp_path), [image])


def test_links_are_followed_once(tmp_path):
    image = save(tmp_path / "elsewhere" / "a.png")
    root = tmp_path / "root"
    (root / "class").mkdir(parents=True)
    (root / "class" / "linked").symlink_to(tmp_path / "elsewhere")
    (root / "class" / "loop").symlink_to(root)
    np.testing.assert_array_equal(images_of(root), [image])


# --- the cache -----------------------------------------------------------------------------


def test_images_are_decoded_once(tmp_path, monkeypatch):
    save(tmp_path / "a.png")
    save(tmp_path / "b.png")
    first = images_of(tmp_path)
    decoded = []
    decode = pictures_module.decode

    def counted(path, look):
        decoded.append(path.name)
        return decode(path, look)

    monkeypatch.setattr(pictures_module, "decode", counted)
    np.testing.assert_array_equal(images_of(tmp_path), first)
    assert decoded == []
    images_of(tmp_path, channels=1)
    assert sorted(decoded) == ["a.png", "b.png"]
    os.utime(tmp_path / "a.png", ns=(1, 1))
    images_of(tmp_path)
    assert len(decoded) == 4
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    images_of(tmp_path)
    assert len(decoded) == 6


def test_more_images_than_a_thread_takes_keep_their_places(tmp_path):
    expected = np.zeros((150, 8, 8, 1), np.uint8)
    for i in range(150):
        expected[i] = i
        save(tmp_path / f"{i:03d}.png", expected[i, ..., 0])
    np.testing.assert_array_equal(images_of(tmp_path, image_size=8, channels=1), expected)


# --- what is refused, or left out ----------------------------------------------------------


def damage(path):
    content = io.BytesIO()
    PIL.Image.fromarray(pixels(64, 64)).save(content, path.suffix[1:].replace("jpg", "jpeg"))
    path.write_bytes(content.getvalue()[: len(content.getvalue()) // 2])


@pytest.mark.parametrize("name", ["m.png", "m.jpg", "m.webp"])
def test_truncated_images_are_named_or_left_out(tmp_path, name, caplog):
    save(tmp_path / "x" / "a.png")
    damage(tmp_path / "x" / name)
    last = save(tmp_path / "y" / "z.png")
    (tmp_path / "y" / "zz.png").write_bytes(b"")
    refuse(tmp_path, rf"expected \S*x/{name} to be whole and readable; got .*skip_bad")
    for _ in range(2):  # decoded, and from the cache
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            dataset = load_folder(data_dir=tmp_path, image_size=16, skip_bad=True).train
        assert re.search(
            rf"2 of the 4 images in .* left out, the first is \S*x/{name}", caplog.text
        )
        assert dataset.num_examples == 2
        np.testing.assert_array_equal(dataset.arrays.images[1], last)
        np.testing.assert_array_equal(dataset.arrays.factors, [[0], [1]])
        assert dataset.space.sizes == (2,)
    refuse(tmp_path, name)


def test_the_first_in_order_is_named(tmp_path):
    for i in range(200):
        (tmp_path / f"{i:03d}.png").write_bytes(b"none")
    refuse(tmp_path, "000.png.*UnidentifiedImageError")
    refuse(tmp_path, "an image that can be read.*got 200 that cannot", skip_bad=True)


def test_links_to_nowhere_and_other_formats_are_refused(tmp_path):
    (tmp_path / "a.png").symlink_to(tmp_path / "nowhere")
    refuse(tmp_path, "a.png to be whole and readable; got FileNotFoundError")
    (tmp_path / "a.png").unlink()
    PIL.Image.fromarray(pixels()).save(tmp_path / "a.png", "GIF")
    refuse(tmp_path, "a.png to be whole and readable; got UnidentifiedImageError")


def test_pipes_are_refused_and_not_waited_for(tmp_path, monkeypatch):
    image = save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "z.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "z.png")
    open_image = PIL.Image.open

    def open_a_file(path, **settings):
        assert path.is_file()  # to open a pipe would hang
        return open_image(path, **settings)

    monkeypatch.setattr(PIL.Image, "open", open_a_file)
    refuse(tmp_path, r"link.png to be a file; got a pipe, a socket or a device \(skip_bad")
    np.testing.assert_array_equal(images_of(tmp_path, skip_bad=True), [image])


def test_folders_without_images_are_refused(tmp_path):
    refuse(None, "a folder of images; got none$")
    refuse(tmp_path / "nowhere", "got .*nowhere, which does not exist$")
    refuse(tmp_path, r"at least one image \(.png, .jpg, .jpeg, .webp\) in .*; got nothing$")
    (tmp_path / "notes.txt").write_text("no image\n")
    refuse(tmp_path / "notes.txt", "notes.txt, which is a file$")
    (tmp_path / ".hidden.png").write_bytes(b"")
    refuse(tmp_path, "got 1 other files and 1 hidden ones$")


def test_images_beside_sub_folders_are_refused(tmp_path):
    for name in ("a.png", "x/1.png", "x/2.png"):
        save(tmp_path / name)
    refuse(tmp_path, "or in sub-folders that are labels; got 1 in it and 2 in sub-folders$")


def test_sub_folders_that_are_splits_are_refused(tmp_path):
    for name in ("train/a/1.png", "Test/a/1.png"):
        save(tmp_path / name)
    refuse(tmp_path, "that are labels .*; got Test, train: name one of them as data_dir$")
    assert load_folder(data_dir=tmp_path / "train").train.num_examples == 1


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"image_size": 7}, "image_size.*at least 8; got 7"),
        ({"image_size": 257}, "image_size.*at most 256; got 257"),
        ({"image_size": 64.0}, "whole number"),
        ({"channels": 2}, r"channels to be 1 \(grey\) or 3 \(colours\); got 2"),
        ({"image_fit": "stretch"}, "image_fit to be one of crop, pad; got 'stretch'"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, settings, expected):
    refuse(tmp_path, expected, **settings)
