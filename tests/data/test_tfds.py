"""Prepared tfds sets: a real one, sets written here, and no network anywhere."""

import io
import json
import re
import shutil
import socket
import time

import jax
import jax.numpy as jnp
import numpy as np
import PIL.Image
import pytest
import tensorflow_datasets as tfds

from betavae_jax.checks import InputError
from betavae_jax.data.tfds import load_tfds

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Any attempt to reach a network fails the test."""

    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def png(pixels, mode=None):
    image = PIL.Image.fromarray(pixels)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, "PNG")
    return file.getvalue()


def prepare(folder, features, splits, name="toy_shapes", config=None, version="1.0.0"):
    """Prepares a set in tfds's own way, from examples in memory."""

    def info(self):
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def split_generators(self, manager):
        return {split: self._generate_examples(split) for split in splits}

    def examples(self, split):
        yield from enumerate(splits[split])

    body = {
        "VERSION": tfds.core.Version(version),
        "name": name,
        "pkg_dir_path": folder,
        "_info": info,
        "_split_generators": split_generators,
        "_generate_examples": examples,
    }
    if config:
        body["BUILDER_CONFIGS"] = [tfds.core.BuilderConfig(name=config)]
    builder_class = type(
        "ToyShapes", (tfds.core.GeneratorBasedBuilder,), body, skip_registration=True
    )
    folder.mkdir(exist_ok=True)
    builder = builder_class(data_dir=folder, file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return folder


def toy_features(shape=(4, 4, 1), **labels):
    image = {"image": tfds.features.Image(shape=shape)}
    return image | {k: tfds.features.ClassLabel(num_classes=n) for k, n in labels.items()}


RNG = np.random.default_rng(0)


def toy_examples(n, shape=(4, 4), **labels):
    """Draws images and labels; a label is given by its number of classes."""
    return [
        {"image": png(RNG.integers(0, 256, shape, np.uint8))}
        | {k: int(RNG.integers(classes)) for k, classes in labels.items()}
        for _ in range(n)
    ]


def refuse(name, folder, *expected):
    started = time.monotonic()
    with pytest.raises(InputError) as caught:
        load_tfds(name, data_dir=folder)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("expected ")
    for text in expected:
        assert re.search(text, message), (text, message)
    assert time.monotonic() - started < 10


# --- a real set ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fashion(reference_data):
    return load_tfds("fashion_mnist", data_dir=reference_data / "tfds")


def test_fashion_mnist_has_its_examples(fashion):
    assert fashion.train.num_examples == 6000
    assert fashion.test.num_examples == 1000
    for dataset in fashion:
        assert dataset.space == (("label",), (10,), False)
        assert dataset.arrays.images.shape == (dataset.num_examples, 28, 28, 1)
        assert dataset.arrays.images.dtype == np.uint8
        assert all(type(leaf) is np.ndarray for leaf in dataset.arrays)
        assert set(np.unique(dataset.arrays.factors)) == set(range(10))


def raw_example(record):
    """Reads a tf.train.Example off the wire: the PNG bytes, and the label after its key."""
    start = record.index(b"\x89PNG")
    stop = record.index(b"IEND") + 8
    # after the key come, each with its length: Feature, its Int64List, the packed values
    at = record.index(b"\x05label") + 6
    assert record[at : at + 5 : 2] == b"\x12\x1a\x0a"
    return record[start:stop], record[at + 6]


def test_pixels_and_labels_are_those_of_the_raw_records(fashion, reference_data):
    folder = reference_data / "tfds" / "fashion_mnist" / "3.0.1"
    raw = tfds.builder_from_directory(folder).as_data_source(
        deserialize_method=tfds.decode.DeserializeMethod.RAW_BYTES
    )
    for split, dataset in [("train", fashion.train), ("test", fashion.test)]:
        index = [0, 1, 7, 123, dataset.num_examples - 1]
        records = [raw_example(bytes(raw[split][i])) for i in index]
        pixels = np.stack([np.array(PIL.Image.open(io.BytesIO(content))) for content, _ in records])
        x = dataset.gather(dataset.arrays, jnp.array(index), KEY)
        factors = dataset.factors(dataset.arrays, jnp.array(index))
        np.testing.assert_allclose(x[..., 0], pixels / 255, atol=1e-7)
        np.testing.assert_array_equal(factors[:, 0], [label for _, label in records])


def test_versions_are_found(fashion, reference_data, monkeypatch):
    folder = reference_data / "tfds"
    monkeypatch.setenv("TFDS_DATA_DIR", str(folder))
    named = load_tfds("fashion_mnist:3.0.1")
    np.testing.assert_array_equal(named.test.arrays.images, fashion.test.arrays.images)
    refuse("fashion_mnist:9.9.9", folder, "got only 3.0.1; to prepare it", "fashion_mnist:9.9.9")


# --- sets written here ---------------------------------------------------------------------


def test_every_class_label_is_a_factor(tmp_path):
    classes = {"label_shape": 3, "label_scale": 5, "instance": 2}
    features = toy_features((4, 6, 3), **classes)
    features |= {
        "image2": tfds.features.Image(shape=(2, 2, 1)),
        "value": tfds.features.Tensor(shape=(), dtype=np.float32),
        "id": tfds.features.Text(),
    }
    other = {"image2": png(np.zeros((2, 2), np.uint8)), "value": 0.5, "id": "a"}
    examples = [example | other for example in toy_examples(20, (4, 6, 3), **classes)]
    splits = load_tfds("toy_shapes", data_dir=prepare(tmp_path, features, {"train": examples}))
    dataset = splits.train
    assert splits.test is None
    sizes = dict(zip(dataset.space.names, dataset.space.sizes, strict=True))
    assert sizes == {"shape": 3, "scale": 5, "instance": 2}
    assert not dataset.space.full_grid
    # tfds shuffles what it writes: examples are matched by their pixels
    labels = {
        np.asarray(PIL.Image.open(io.BytesIO(e["image"]))).tobytes(): [
            e[name if name in e else f"label_{name}"] for name in dataset.space.names
        ]
        for e in examples
    }
    assert len(labels) == 20
    for image, factors in zip(dataset.arrays.images, dataset.arrays.factors, strict=True):
        assert labels.pop(image.tobytes()) == factors.tolist()


def test_gather_is_the_same_traced_and_mapped(tmp_path):
    folder = prepare(tmp_path, toy_features(label=3), {"train": toy_examples(5, label=3)})
    dataset = load_tfds("toy_shapes", data_dir=folder).train
    index = jnp.array([[4, 0], [2, 2]], jnp.int32)
    eager = jnp.stack([dataset.gather(dataset.arrays, row, KEY) for row in index])
    arrays = jax.device_put(dataset.arrays)
    mapped = jax.jit(jax.vmap(dataset.gather, in_axes=(None, 0, None)))(arrays, index, KEY)
    np.testing.assert_array_equal(mapped, eager)
    assert eager.dtype == jnp.float32


def test_unknown_labels_are_no_factor(tmp_path):
    features = toy_features(label=3, label_size=2)
    hidden = [example | {"label": -1} for example in toy_examples(4, label_size=2)]
    splits = {"train": toy_examples(4, label=3, label_size=2), "test": hidden}
    loaded = load_tfds("toy_shapes", data_dir=prepare(tmp_path, features, splits))
    assert loaded.train.space == (("size",), (2,), False)
    assert loaded.test.arrays.factors.shape == (4, 1)


def test_a_set_without_labels_has_no_factor_space(tmp_path):
    dark = [{"image": png(np.full((4, 4), i % 2, np.uint8))} for i in range(6)]
    dataset = load_tfds("toy_shapes", data_dir=prepare(tmp_path, toy_features(), {"train": dark}))
    assert dataset.train.space is None
    assert dataset.train.arrays.factors.shape == (6, 0)
    # bytes 0 and 1, as tfds stores dSprites
    assert set(np.unique(dataset.train.arrays.images)) == {0, 255}


@pytest.mark.parametrize("mode", ["P", "L", "RGB"])
def test_colours_are_those_the_set_declares(tmp_path, mode):
    # multiples of 51 are on PIL's standard palette
    gray = np.repeat(RNG.integers(0, 6, (4, 4, 1), np.uint8) * np.uint8(51), 3, axis=2)
    features = {"picture": tfds.features.Image(shape=(None, None, 3))}
    folder = prepare(tmp_path, features, {"train": [{"picture": png(gray, mode)}]})
    images = load_tfds("toy_shapes", data_dir=folder).train.arrays.images
    np.testing.assert_array_equal(images[0], gray)


def test_the_newest_version_and_the_named_config(tmp_path):
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        n = int(version.split(".")[1])
        prepare(tmp_path, toy_features(), {"train": toy_examples(n)}, version=version)
    assert load_tfds("toy_shapes", data_dir=tmp_path).train.num_examples == 10
    assert load_tfds("toy_shapes:1.2.0", data_dir=str(tmp_path)).train.num_examples == 2
    for config in ("big", "small.v2"):
        splits = {"train": toy_examples(len(config))}
        prepare(tmp_path, toy_features(), splits, name="toy_configs", config=config)
    assert load_tfds("toy_configs/small.v2:1.0.0", data_dir=tmp_path).train.num_examples == 8
    assert load_tfds("toy_configs/big", data_dir=tmp_path).train.num_examples == 3
    refuse("toy_configs", tmp_path, "its configs toy_configs/big, toy_configs/small.v2: name one")


def test_large_sets_show_their_progress(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("betavae_jax.data.tfds._SILENT_UP_TO", 10)
    splits = {"train": toy_examples(11), "test": toy_examples(10)}
    load_tfds("toy_shapes", data_dir=prepare(tmp_path, toy_features(), splits))
    captured = capfd.readouterr()
    assert "decoding train" in captured.err
    assert "decoding test" not in captured.err
    assert "decoding" not in captured.out


# --- what is refused -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mnist", "dsprites/none", "cifar10:3.0.2", "no_such_set"])
def test_a_set_that_is_not_prepared_is_refused_at_once(tmp_path, name):
    prepare(tmp_path, toy_features(), {"train": toy_examples(1)})
    command = (
        "python -c 'import tensorflow_datasets as tfds;"
        f' tfds.builder("{name}", data_dir="{tmp_path}")'
        '.download_and_prepare(file_format="array_record")\''
    )
    refuse(name, tmp_path, "got there toy_shapes", re.escape(command), r"betavae_jax\[tf\]")


def test_a_missing_data_dir_is_refused(tmp_path, monkeypatch):
    refuse("mnist", tmp_path / "nowhere", "nowhere; got there nothing")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    refuse("mnist", None, re.escape(str(tmp_path)), r'tfds.builder\("mnist"\)')
    monkeypatch.delenv("TFDS_DATA_DIR")
    monkeypatch.setenv("HOME", str(tmp_path))
    refuse("mnist", None, re.escape(str(tmp_path / "tensorflow_datasets")))


@pytest.mark.parametrize(
    "name", ["", "a b", "../up", "/etc", "name:latest", "name:1.*.*", "ns:name", "name/..", "x/"]
)
def test_names_that_are_none_are_refused(tmp_path, name):
    refuse(name, tmp_path, r"name\[/config\]\[:version, 1.2.3\]; got " + re.escape(repr(name)))


def test_other_formats_are_refused(tmp_path):
    prepare(tmp_path, toy_features(), {"train": toy_examples(2)})
    path = tmp_path / "toy_shapes" / "1.0.0" / "dataset_info.json"
    info = json.loads(path.read_text())
    expected = "prepared as array_record; got tfrecord: delete that folder and prepare it again"
    path.write_text(json.dumps(info | {"fileFormat": "tfrecord"}))
    refuse("toy_shapes", tmp_path, expected, 'file_format="array_record"')
    del info["fileFormat"]
    path.write_text(json.dumps(info))
    refuse("toy_shapes", tmp_path, expected)


def test_damaged_sets_are_refused(tmp_path):
    prepare(tmp_path / "whole", toy_features(label=3), {"train": toy_examples(20, label=3)})
    damages = {
        "dataset_info.json": lambda whole: whole[:50],
        "features.json": lambda whole: whole[:50],
        "toy_shapes-train.array_record-00000-of-00001": lambda whole: whole[: len(whole) // 2],
    }
    for name, damage in damages.items():
        for action in ("damage", "delete"):
            folder = tmp_path / f"{name}-{action}"
            shutil.copytree(tmp_path / "whole", folder)
            path = folder / "toy_shapes" / "1.0.0" / name
            path.write_bytes(damage(path.read_bytes())) if action == "damage" else path.unlink()
            refuse("toy_shapes", folder, "toy_shapes", "whole and readable|to be prepared in")


def test_images_of_several_sizes_are_refused(tmp_path):
    splits = {"train": toy_examples(3, (4, 4)) + toy_examples(3, (5, 4))}
    folder = prepare(tmp_path, toy_features((None, None, 1)), splits)
    refuse("toy_shapes", folder, r"one size.*toy_shapes.*\(train\)", r"\[4, 4, 1\]", r"\[5, 4, 1\]")


def test_splits_of_several_sizes_are_refused(tmp_path):
    splits = {"train": toy_examples(3, (4, 4)), "test": toy_examples(3, (5, 4))}
    folder = prepare(tmp_path, toy_features((None, None, 1)), splits)
    refuse("toy_shapes", folder, r"training images' shape \[4, 4, 1\]; got \[5, 4, 1\]")


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"x": tfds.features.Tensor(shape=(), dtype=np.int64)}, "one image feature.*got x"),
        (
            {k: tfds.features.Image(shape=(4, 4, 1)) for k in ("left", "right")},
            "one image feature, or one named image.*got left, right",
        ),
        (
            {"image": tfds.features.Image(shape=(4, 4, 1), dtype=np.uint16)},
            r"image of uint8 with 1 to 4 channels.*got uint16 \[4, 4, 1\]",
        ),
    ],
    ids=["no image", "two images", "16 bits"],
)
def test_sets_without_one_image_of_bytes_are_refused(tmp_path, features, expected):
    values = {"x": 1, "left": png(np.zeros((4, 4), np.uint8))}
    example = {k: values.get(k, values["left"]) for k in features}
    refuse("toy_shapes", prepare(tmp_path, features, {"train": [example]}), expected)


def test_a_set_without_a_training_split_is_refused(tmp_path):
    folder = prepare(tmp_path, toy_features(), {"validation": toy_examples(2)})
    refuse("toy_shapes", folder, r"a split train.*got \['validation'\]")


# --- full grids ----------------------------------------------------------------------------


def grid_examples(sizes, order):
    """One image a combination, its first pixel the row in the grid, in the given order."""
    rows = list(np.ndindex(*sizes.values()))
    for i in order:
        image = np.full((4, 4), 255, np.uint8)
        image[0, 0] = i
        yield {"image": png(image)} | dict(zip(sizes, rows[i], strict=True))


def test_a_shuffled_grid_is_put_in_order(tmp_path):
    sizes = {"label_a": 3, "label_b": 2, "label_c": 5}
    features = toy_features(**sizes) | {"value_a": tfds.features.Scalar(dtype=np.float32)}
    examples = [example | {"value_a": 0.5} for example in grid_examples(sizes, RNG.permutation(30))]
    folder = prepare(tmp_path, features, {"train": examples, "test": examples[:7]})
    train, test = load_tfds("toy_shapes", data_dir=folder)
    assert train.space == (("a", "b", "c"), (3, 2, 5), True)
    np.testing.assert_array_equal(train.arrays.factors, list(np.ndindex(3, 2, 5)))
    # the images have moved with their labels
    np.testing.assert_array_equal(train.arrays.images[:, 0, 0, 0], np.arange(30))
    rows = np.ravel_multi_index(test.arrays.factors.T, (3, 2, 5))
    np.testing.assert_array_equal(test.arrays.images[:, 0, 0, 0], rows)
    assert test.space == (("a", "b", "c"), (3, 2, 5), False)


def test_factors_stand_in_the_same_order_in_every_process(tmp_path):
    labels = {f"label_{name}": 2 for name in "gdbface"}
    folder = prepare(tmp_path, toy_features(**labels), {"train": toy_examples(3, **labels)})
    assert load_tfds("toy_shapes", data_dir=folder).train.space.names == tuple("abcdefg")


@pytest.mark.parametrize("change", ["twice", "missing"])
def test_what_is_no_grid_keeps_its_order(tmp_path, change):
    sizes = {"label_a": 3, "label_b": 2}
    order = {"twice": [0, 1, 2, 3, 4, 4], "missing": [0, 1, 2, 3, 4]}[change]
    folder = prepare(tmp_path, toy_features(**sizes), {"train": list(grid_examples(sizes, order))})
    train = load_tfds("toy_shapes", data_dir=folder).train
    assert not train.space.full_grid
    rows = np.ravel_multi_index(train.arrays.factors.T, train.space.sizes)
    assert sorted(rows) == order
    np.testing.assert_array_equal(train.arrays.images[:, 0, 0, 0], rows)


@pytest.mark.parametrize(
    ("name", "factors"),
    [
        (
            "dsprites",
            {"orientation": 40, "scale": 6, "shape": 3, "x_position": 32, "y_position": 32},
        ),
        (
            "shapes3d",
            {"floor_hue": 10, "object_hue": 10, "orientation": 15, "scale": 8, "shape": 4,
             "wall_hue": 10},
        ),
        (
            "smallnorb",
            {"azimuth": 18, "category": 5, "elevation": 9, "instance": 10, "lighting": 6},
        ),
    ],
)  # fmt: skip
def test_the_catalogues_sets_have_their_factors(tmp_path, name, factors):
    """The features of tfds's own builders, with a few examples of our own."""
    with tfds.testing.mock_data(policy=tfds.testing.MockPolicy.USE_CODE):
        features = dict(tfds.builder(name, data_dir=tmp_path / "mock").info.features)
    shape = features["image"].shape
    example = {
        key: png(np.zeros(shape[:2], np.uint8), "RGB" if shape[-1] == 3 else None)
        if key.startswith("image") else 0
        for key in features
    }  # fmt: skip
    prepared = prepare(tmp_path / "prepared", features, {"train": [example] * 3}, name=name)
    space = load_tfds(name, data_dir=prepared).train.space
    assert dict(zip(space.names, space.sizes, strict=True)) == factors
    assert not space.full_grid
