"""dSprites and its relatives: look-ups against NumPy, the published file, the refusals."""

import inspect
import itertools
import os
import zipfile
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest

from betavae_jax.checks import InputError
from betavae_jax.data import DATASETS, dataset_settings, dsprites, dsprites_file, load_dataset
from betavae_jax.data.dsprites import (
    PictureArrays,
    SpriteArrays,
    gather_colored,
    gather_noisy,
    gather_scream,
    gather_sprites,
    load_dsprites,
    load_dsprites_color,
    load_dsprites_noisy,
    load_dsprites_scream,
    sprite_factors,
    take_sprites,
)
from betavae_jax.data.sprites import FACTOR_SIZES, NUM_IMAGES, draw_sprite

FILE = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
KEY = jax.random.key(0)


def draw_images(index):
    return np.stack([draw_sprite(int(i) // 1024)[i % 1024] for i in index])


PACKED = draw_images([0, 250_000, 400_000, 737_279, 600_001])
SPRITES = np.unpackbits(PACKED, axis=1).reshape(-1, 64, 64, 1).astype(np.float32)
# its red grows along the rows, its green along the columns: a place can be read off
PICTURE = np.stack([*np.meshgrid(2 * np.arange(100), 2 * np.arange(90), indexing="ij")], -1)
PICTURE = np.concatenate([PICTURE, np.full((100, 90, 1), 60)], -1).astype(np.uint8)
PLAIN = SpriteArrays(PACKED, ())
KINDS = {
    "dsprites": (gather_sprites, PLAIN),
    "dsprites_color": (gather_colored, PLAIN),
    "dsprites_noisy": (gather_noisy, PLAIN),
    "dsprites_scream": (gather_scream, PictureArrays(PACKED, (), PICTURE)),
}
TRACED = {kind: jax.jit(gather) for kind, (gather, _) in KINDS.items()}
FEW = 1024  # images, where a whole set would be slow


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BETAVAE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def few(monkeypatch):
    """Makes the set one of a single sprite."""
    monkeypatch.setattr(dsprites, "NUM_SPRITES", 1)
    monkeypatch.setattr(dsprites_file, "NUM_IMAGES", FEW)


@pytest.fixture
def published(tmp_path, few):
    """Writes a short file of the published form; its images are not those that are drawn."""
    images = np.random.default_rng(0).integers(0, 2, (FEW, 64, 64), np.uint8)
    names = {"imgs": images, "latents_classes": np.zeros((FEW, 6), np.int64)}
    np.savez_compressed(tmp_path / FILE, **names, metadata=np.array({"an": "object"}, object))
    return tmp_path / FILE, images


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "picture.png"
    PIL.Image.fromarray(PICTURE).save(path)
    return path


def look_up(kind, index, key=KEY):
    return np.asarray(TRACED[kind](KINDS[kind][1], jnp.asarray(index, jnp.int32), key))


@pytest.mark.parametrize("kind", KINDS)
def test_look_ups_are_the_same_eager_traced_and_mapped(kind):
    gather, arrays = KINDS[kind]
    index = jnp.array([[0, 3, 3], [4, 1, 2]], jnp.int32)
    eager = gather(arrays, index[1], KEY)
    arrays = jax.device_put(arrays)
    traced = TRACED[kind](arrays, index[1], KEY)
    mapped = jax.jit(jax.vmap(gather, in_axes=(None, 0, None)))(arrays, index, KEY)
    assert eager.dtype == jnp.float32
    assert eager.shape == (3, 64, 64, 1 if kind == "dsprites" else 3)
    assert float(eager.min()) >= 0
    assert float(eager.max()) <= 1
    np.testing.assert_allclose(traced, eager, atol=1e-7)
    np.testing.assert_allclose(mapped[1], eager, atol=1e-7)


def test_bits_are_unpacked_as_numpy_does():
    index = [4, 0, 0, 2]
    np.testing.assert_array_equal(look_up("dsprites", index), SPRITES[index])


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"dsprites"}))
def test_an_image_depends_on_its_index_and_the_key_alone(kind):
    together = look_up(kind, [2, 0, 1])
    np.testing.assert_allclose(look_up(kind, [1, 1, 1])[0], together[2], atol=1e-7)
    np.testing.assert_array_equal(look_up(kind, [2, 0, 1]), together)
    other = look_up(kind, [2, 0, 1], jax.random.key(1))
    assert all((a != b).any() for a, b in zip(together, other, strict=True))


def test_a_sprite_has_one_random_color():
    arrays = SpriteArrays(np.repeat(PACKED[:1], 500, axis=0), ())
    x = np.asarray(TRACED["dsprites_color"](arrays, jnp.arange(500), KEY))
    lit = SPRITES[0, :, :, 0] == 1
    assert (x[:, ~lit] == 0).all()
    colors = x[:, lit]
    np.testing.assert_array_equal(colors, np.broadcast_to(colors[:, :1], colors.shape))
    # uniform in [0.5, 1]: mean 0.75, variance 1/48; channels apart are independent
    colors = colors[:, 0]
    assert colors.min() >= 0.5
    assert colors.max() <= 1
    np.testing.assert_allclose(colors.mean(axis=0), 0.75, atol=4 * np.sqrt(1 / 48 / 500))
    np.testing.assert_allclose(np.cov(colors.T), np.eye(3) / 48, atol=0.005)


def test_noise_is_behind_a_white_sprite():
    x = look_up("dsprites_noisy", [1, 3])
    for image, sprite in zip(x, SPRITES[[1, 3], :, :, 0], strict=True):
        assert (image[sprite == 1] == 1).all()
        noise = image[sprite == 0]
        # uniform in [0, 1]: mean 1/2, variance 1/12
        assert noise.mean() == pytest.approx(0.5, abs=4 * np.sqrt(1 / 12 / noise.size))
        assert noise.var() == pytest.approx(1 / 12, abs=0.005)
        assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.1
    assert np.abs(np.corrcoef(x[0].ravel(), x[1].ravel())[0, 1]) < 0.1


def test_a_sprite_inverts_a_part_of_the_picture():
    count = 400
    arrays = PictureArrays(np.repeat(PACKED[3:4], count, axis=0), (), PICTURE)
    x = np.asarray(TRACED["dsprites_scream"](arrays, jnp.arange(count), KEY), np.float64)
    lit = SPRITES[3, :, :, 0] == 1
    background = np.where(lit[..., None], 1 - x, x)
    # twice the background is the part of the picture, plus a color of the whole image
    shifted = 2 * background * 255
    places = np.round([shifted[:, 1, 0, 0] - shifted[:, 0, 0, 0], shifted[:, 0, 1, 1]
                       - shifted[:, 0, 0, 1]])  # fmt: skip
    np.testing.assert_array_equal(places, 2)
    parts = np.lib.stride_tricks.sliding_window_view(PICTURE, (64, 64), axis=(0, 1))
    part = np.moveaxis(parts[0, 0], 0, -1).astype(np.float64)
    offsets = shifted - part  # two pixels a step of the place, plus the color
    np.testing.assert_allclose(offsets, np.broadcast_to(offsets[:, :1, :1], x.shape), atol=1e-3)
    colors = offsets[:, 0, 0] / 255
    assert colors[:, 2].min() >= 0
    assert colors[:, 2].max() <= 1
    assert colors[:, 2].mean() == pytest.approx(0.5, abs=4 * np.sqrt(1 / 12 / count))
    # rows 0 to 35 and columns 0 to 25, at two steps of 1/255 each, beside a uniform color
    for channel, places in [(0, 36), (1, 26)]:
        spread = (2 / 255) ** 2 * (places**2 - 1) / 12
        mean = 0.5 + (places - 1) / 255
        assert colors[:, channel].mean() == pytest.approx(mean, abs=0.07)
        assert colors[:, channel].var() == pytest.approx(1 / 12 + spread, abs=0.02)


def test_the_places_of_a_narrow_picture():
    picture = PICTURE[:66, :65]
    arrays = PictureArrays(np.zeros((200, 512), np.uint8), (), picture)
    x = np.asarray(TRACED["dsprites_scream"](arrays, jnp.arange(200), KEY), np.float64)
    blue = np.round(2 * x[:, 0, 0, 2] * 255 - 60, 3)  # the color's share in the blue channel
    assert len(np.unique(blue)) > 190
    differences = np.diff(2 * 255 * x, axis=1)[..., 0]
    np.testing.assert_allclose(differences, 2, atol=1e-3)


def test_factors_and_index_go_both_ways():
    index = np.random.default_rng(0).integers(0, NUM_IMAGES, 4000)
    index[:2] = [0, NUM_IMAGES - 1]
    factors = sprite_factors(PLAIN, jnp.asarray(index, jnp.int32))
    assert factors.dtype == jnp.int32
    np.testing.assert_array_equal(factors, np.stack(np.unravel_index(index, FACTOR_SIZES), -1))
    np.testing.assert_array_equal(np.ravel_multi_index(np.asarray(factors).T, FACTOR_SIZES), index)
    mapped = jax.jit(jax.vmap(sprite_factors, (None, 0)))(PLAIN, index.reshape(40, 100))
    np.testing.assert_array_equal(mapped.reshape(-1, 5), factors)
    every = sprite_factors(PLAIN, jnp.arange(40 * 1024))
    grid = itertools.product([0], [0], range(40), range(32), range(32))
    np.testing.assert_array_equal(every, list(grid))


@pytest.mark.parametrize("kind", KINDS)
def test_a_part_of_a_set_keeps_its_images_and_factors(kind):
    arrays = KINDS[kind][1]
    part = take_sprites(take_sprites(arrays, np.array([4, 0, 2])), np.array([2, 0]))
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(part))
    assert part.rows.dtype == np.int32
    assert part.packed.nbytes == 2 * 512
    found = TRACED[kind](part, jnp.array([1, 0, 0]), KEY)
    np.testing.assert_array_equal(found, look_up(kind, [4, 2, 2]))
    np.testing.assert_array_equal(
        sprite_factors(part, jnp.array([1, 0])), sprite_factors(arrays, jnp.array([4, 2]))
    )


def test_loaders_draw_the_images_and_name_the_factors(few, picture, cache):
    expected = draw_sprite(0)
    for kind in KINDS:
        settings = {"picture": picture} if kind == "dsprites_scream" else {}
        splits = load_dataset(kind, **settings)
        data = splits.train
        assert splits.test is None
        assert data.gather is KINDS[kind][0]
        assert data.factors is sprite_factors
        assert data.take is take_sprites
        assert data.num_examples == FEW
        names = ("shape", "scale", "orientation", "posX", "posY")
        assert data.space == (names, (3, 6, 40, 32, 32), True)
        assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(data.arrays))
        np.testing.assert_array_equal(data.arrays.packed, expected)
        shape = jax.eval_shape(data.gather, data.arrays, jnp.zeros(7, jnp.int32), KEY).shape
        assert shape == (7, 64, 64, 1 if kind == "dsprites" else 3)
    np.testing.assert_array_equal(data.arrays.picture, PICTURE)
    assert not cache.exists()  # what is drawn within a second needs no file


@pytest.mark.slow
def test_the_whole_set_has_an_image_an_index():
    data = load_dsprites().train
    assert data.arrays.packed.shape == (NUM_IMAGES, 512)
    index = np.random.default_rng(0).integers(0, NUM_IMAGES, 50)
    x = np.asarray(data.gather(data.arrays, jnp.asarray(index), KEY))
    packed = np.packbits(x.astype(np.uint8).reshape(50, -1), axis=1)
    np.testing.assert_array_equal(packed, draw_images(index))


def test_settings_have_plain_names_and_defaults():
    assert dataset_settings("dsprites") == {"data_dir": None}
    assert dataset_settings("dsprites_color") == dataset_settings("dsprites_noisy")
    assert dataset_settings("dsprites_scream") == {"picture": None, "data_dir": None}
    for kind in KINDS:
        assert all(
            p.kind is p.KEYWORD_ONLY for p in inspect.signature(DATASETS[kind]).parameters.values()
        )


@pytest.mark.parametrize("load", [load_dsprites, load_dsprites_color, load_dsprites_noisy])
def test_the_published_file_is_read_once(published, cache, monkeypatch, load):
    path, images = published
    expected = np.packbits(images.reshape(FEW, -1), axis=1)
    for data_dir in (path, str(path.parent)):
        np.testing.assert_array_equal(load(data_dir=data_dir).train.arrays.packed, expected)
    assert len(list(cache.glob("dsprites-*.npz"))) == 1
    monkeypatch.setattr(dsprites_file, "_read_images", None)
    np.testing.assert_array_equal(load(data_dir=path).train.arrays.packed, expected)


def test_a_changed_file_is_read_again(published, cache):
    path, images = published
    load_dsprites(data_dir=path)
    np.savez_compressed(path, imgs=1 - images)
    os.utime(path, ns=(1, 1))
    packed = load_dsprites(data_dir=path).train.arrays.packed
    np.testing.assert_array_equal(packed, np.packbits((1 - images).reshape(FEW, -1), axis=1))
    assert len(list(cache.glob("dsprites-*.npz"))) == 2


def refuse(load, *expected, **settings):
    """Expects one line that says each of `expected`."""
    with pytest.raises(InputError) as caught:
        load(**settings)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("expected ")
    for text in expected:
        assert text in message, (text, message)


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"images": np.zeros((FEW, 64, 64), np.uint8)}, ["an array imgs in", "images.npy"]),
        ({"imgs": np.zeros((FEW - 1, 64, 64), np.uint8)}, ["[1024, 64, 64]", "[1023, 64, 64]"]),
        ({"imgs": np.zeros((FEW, 32, 128), np.uint8)}, ["[1024, 64, 64]", "[1024, 32, 128]"]),
        ({"imgs": np.zeros((FEW, 64, 64), np.int8)}, ["of uint8", "got int8"]),
        ({"imgs": np.zeros((FEW, 64, 64), bool)}, ["of uint8", "got bool"]),
        ({"imgs": np.zeros((FEW, 64, 64), np.uint8, "F")}, ["Fortran order"]),
        ({"imgs": np.full((FEW, 64, 64), 255, np.uint8)}, ["pixels 0 and 1", "got 255"]),
        ({"imgs": np.array([{}], object)}, ["got object [1]"]),
    ],
    ids=["name", "count", "shape", "int8", "bool", "fortran", "full range", "objects"],
)
def test_other_arrays_are_refused(tmp_path, few, cache, arrays, expected):
    np.savez_compressed(tmp_path / FILE, **arrays)
    refuse(load_dsprites, FILE, *expected, data_dir=tmp_path)
    assert not list(cache.glob("*.npz"))


def write_member(path, content):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("imgs.npy", content)


def test_damaged_files_are_refused(published, tmp_path):
    path, _ = published
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        member = archive.read("imgs.npy")
    folder = tmp_path / "damaged"
    folder.mkdir()
    path = folder / FILE
    for damaged in (b"", b"not a zip file", content[: len(content) // 2]):
        path.write_bytes(damaged)
        refuse(load_dsprites, str(path), "whole and readable", data_dir=path)
    for damaged in (member[:-1], member + b"\0", b"\x93NUMPY", b"\x93NUMPY\x09\x00" + member[8:]):
        write_member(path, damaged)
        refuse(load_dsprites, str(path), "whole and readable", data_dir=path)


def test_a_false_checksum_is_seen(published, tmp_path):
    path, _ = published
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo("imgs.npy")
    content = path.read_bytes()
    checksum = info.CRC.to_bytes(4, "little")
    assert zlib.crc32(b"") != info.CRC
    path.write_bytes(content.replace(checksum, b"\1\2\3\4"))
    refuse(load_dsprites, str(path), "whole and readable", "CRC", data_dir=path)


def test_a_missing_file_is_named(tmp_path):
    refuse(load_dsprites, FILE, "does not exist", data_dir=tmp_path)
    refuse(load_dsprites_color, FILE, "got /nowhere, which", data_dir="/nowhere")


def test_pictures_are_shrunk_to_the_published_size(tmp_path, few):
    path = tmp_path / "large.png"
    for size, expected in [((1000, 500), (175, 350)), ((700, 900), (274, 213)), ((80, 70), None)]:
        PIL.Image.new("RGB", size, (255, 51, 0)).save(path)
        pixels = load_dsprites_scream(picture=path).train.arrays.picture
        assert pixels.dtype == np.uint8
        assert pixels.shape == (*(expected or size[::-1]), 3)
        np.testing.assert_array_equal(pixels, np.broadcast_to([255, 51, 0], pixels.shape))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "CMYK"])
def test_pictures_of_every_mode_become_rgb(tmp_path, few, mode):
    path = tmp_path / ("picture.tiff" if mode == "CMYK" else "picture.png")
    PIL.Image.new("RGB", (80, 80), (255, 255, 255)).convert(mode).save(path)
    pixels = load_dsprites_scream(picture=str(path)).train.arrays.picture
    assert pixels.shape == (80, 80, 3)
    assert (pixels == 255).all()


def test_pictures_that_are_none_are_refused(tmp_path, picture):
    content = picture.read_bytes()
    refuse(load_dsprites_scream, "picture to name an image file; got none")
    refuse(load_dsprites_scream, "got none", picture="")
    refuse(load_dsprites_scream, "/nowhere, which is none", picture="/nowhere")
    refuse(load_dsprites_scream, str(tmp_path), "which is none", picture=tmp_path)
    for damaged in (b"", b"no picture", content[: len(content) // 2]):
        picture.write_bytes(damaged)
        refuse(load_dsprites_scream, str(picture), "whole and readable", picture=picture)
    for size, got in [((64, 300), "got 58 × 274 px"), ((65, 64), "got 65 × 64 px")]:
        PIL.Image.new("RGB", size).save(picture)
        refuse(load_dsprites_scream, "more than 64 px a side", got, picture=picture)
