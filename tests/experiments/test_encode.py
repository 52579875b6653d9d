"""The driver that encodes: every kind of input and output, what is streamed, refusals."""

import dataclasses
import functools
import gzip
import os
import struct
import zipfile

import jax
import numpy as np
import PIL.Image
import pyarrow.csv
import pyarrow.parquet
import pytest

import betavae_jax as bv
from betavae_jax.checks import InputError
from betavae_jax.data import streams
from betavae_jax.data.pictures import Look
from betavae_jax.evaluation import load_codes
from betavae_jax.export import code_files, encoding
from betavae_jax.runs.settings import Settings, build
from experiments import encode

NETWORK = {"network": "mlp", "network_settings": {"widths": "8", "decoder_widths": "8"}}
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (11, 16, 16), np.uint8)
VECTORS = RNG.normal(size=(30, 4)) * [1, 10, 100, 0.1] + [1000, 0, -3, 5]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("BETAVAE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setattr(encoding, "_ROWS_AT_ONCE", 4)  # several batches, the last not full
    monkeypatch.setattr(streams, "_ROWS_AT_ONCE", 4)


@pytest.fixture
def invoke(invoke_driver):
    return functools.partial(invoke_driver, encode.main)


@pytest.fixture(scope="module")
def workdir(make_experiment, tmp_path_factory, train):
    experiment = make_experiment(
        seed=[0, 1], num_steps=2, checkpoint_every=2, log_every=2, tensorboard=False, **NETWORK
    )
    return train(tmp_path_factory.mktemp("images") / "a", experiment)


@pytest.fixture(scope="module", params=[0.0, 0.2])
def on_vectors(tmp_path_factory, train, request):
    folder = tmp_path_factory.mktemp("vectors")
    np.save(folder / "x.npy", VECTORS)
    settings = Settings(
        dataset="arrays", data={"data_dir": str(folder / "x.npy")}, num_latents=2, num_steps=2,
        batch_size=8, test_fraction=request.param, checkpoint_every=2, log_every=2,
        tensorboard=False, **NETWORK,
    )  # fmt: skip
    return train(folder / "a", build(settings))


def read(path):
    with np.load(path) as archive:
        return dict(archive)


def assert_codes(arrays, posterior):
    for name in ("mean", "log_variance"):
        assert arrays[name].dtype == np.float32
        np.testing.assert_allclose(arrays[name], getattr(posterior, name), rtol=0, atol=1e-6)


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_the_run_s_own_set_with_its_factors(invoke, workdir, tmp_path):
    path = tmp_path / "codes.npz"
    code, output, _ = invoke(f"--workdir={workdir}", "--run=1", f"--output={path}")
    assert code == 0
    assert output == f"64 codes of 3 latents: {path}\n"
    arrays = read(path)
    assert set(arrays) == {"mean", "log_variance", "factors", "codes", "factor_names"}
    data = bv.build(Settings(**bv.load(workdir).config["settings"])).splits.train
    index = np.arange(64)
    x = np.asarray(data.gather(data.arrays, index, None))
    assert_codes(arrays, bv.load(workdir, 1).encode(x))
    np.testing.assert_array_equal(arrays["factors"], data.factors(data.arrays, index))
    assert list(arrays["factor_names"]) == ["x", "y"]
    np.testing.assert_array_equal(arrays["codes"], arrays["mean"])
    codes_train, factors_train, codes_test, _ = load_codes(path)
    assert (codes_train.shape, factors_train.shape, codes_test.shape) == ((42, 3), (42, 2), (22, 3))


def test_pictures_that_cannot_be_read_are_left_out_if_asked(invoke, workdir, tmp_path, caplog):
    folder = tmp_path / "in"
    folder.mkdir()
    for i, image in enumerate(IMAGES[:3]):
        PIL.Image.fromarray(image).save(folder / f"{i}.png")
    (folder / "1.png").write_bytes(b"\x89PNG")
    arguments = (f"--workdir={workdir}", f"--input={folder}", f"--output={tmp_path / 'codes.npz'}")
    code, _, errors = invoke(*arguments)
    assert (code, "1.png" in errors, "skip_bad" in errors) == (2, True, True)
    code, output, _ = invoke(*arguments, "--skip_bad")
    assert (code, output.split()[0]) == (0, "2")
    assert "left out" in caplog.text


def test_a_folder_of_pictures_to_a_table(invoke, workdir, tmp_path):
    for i, image in enumerate(IMAGES):
        path = tmp_path / "in" / "ab"[i % 2] / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.kron(image, np.ones((2, 2), np.uint8))).save(path)
    expected, arguments = None, (f"--workdir={workdir}", f"--input={tmp_path / 'in'}")
    readers = {".csv": pyarrow.csv.read_csv, ".parquet": pyarrow.parquet.read_table}
    for suffix, reader in readers.items():
        path = tmp_path / f"codes{suffix}"
        assert invoke(*arguments, f"--output={path}")[0] == 0
        table = reader(path)
        assert table.column_names == [
            "file", "label", "mean_0", "mean_1", "mean_2",
            "log_variance_0", "log_variance_1", "log_variance_2",
        ]  # fmt: skip
        assert table["file"].to_pylist()[:2] == ["a/00.png", "a/02.png"]
        assert table["label"].to_pylist() == [0] * 6 + [1] * 5
        columns = np.array([table[name].to_numpy() for name in table.column_names[2:]], np.float32)
        if expected is not None:  # decimals that are read back as the same bits
            np.testing.assert_array_equal(columns, expected)
        expected = columns
    assert invoke(*arguments, f"--output={tmp_path / 'c.npz'}")[0] == 0
    arrays = read(tmp_path / "c.npz")
    np.testing.assert_array_equal(arrays["mean"].T, expected[:3])
    assert list(arrays["files"][:2]) == ["a/00.png", "a/02.png"]


def test_mnist_s_files_have_labels_and_splits(invoke, workdir, tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", IMAGES)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.arange(11, dtype=np.uint8) % 3)
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", IMAGES[:2])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.ones(2, np.uint8))
    path = tmp_path / "codes.npz"
    code, output, _ = invoke(f"--workdir={workdir}", f"--input={tmp_path}", f"--output={path}")
    assert (code, output.split()[0]) == (0, "13")
    arrays = read(path)
    both = np.concatenate([IMAGES, IMAGES[:2]])
    assert_codes(arrays, bv.load(workdir).encode(both))
    assert list(arrays["split"]) == ["train"] * 11 + ["test"] * 2
    np.testing.assert_array_equal(arrays["factors"][:, 0], [*(np.arange(11) % 3), 1, 1])


@pytest.mark.parametrize("kind", ["npz", "npy", "float", "binary"])
def test_images_in_files(invoke, workdir, tmp_path, kind):
    images = {"float": IMAGES / 255, "binary": IMAGES % 2}.get(kind, IMAGES)
    source = tmp_path / ("in.npz" if kind == "npz" else "in.npy")
    np.savez(source, x=images) if kind == "npz" else np.save(source, images)
    path = tmp_path / "codes.npz"
    assert invoke(f"--workdir={workdir}", f"--input={source}", f"--output={path}")[0] == 0
    arrays = read(path)
    assert set(arrays) == {"mean", "log_variance"}
    assert_codes(arrays, bv.load(workdir).encode(images))


def test_vectors_are_standardised_as_in_training(invoke, on_vectors, tmp_path):
    assert invoke(f"--workdir={on_vectors}", f"--output={tmp_path / 'own.npz'}")[0] == 0
    own = read(tmp_path / "own.npz")
    np.savetxt(tmp_path / "few.csv", VECTORS[:5], delimiter=",")
    arguments = (f"--input={tmp_path / 'few.csv'}", f"--output={tmp_path / 'few.npz'}")
    assert invoke(f"--workdir={on_vectors}", *arguments)[0] == 0
    few = read(tmp_path / "few.npz")
    # Five rows have another mean than thirty: by their own they would differ.
    np.testing.assert_allclose(few["mean"], own["mean"][:5], rtol=0, atol=1e-6)
    assert_codes(own, bv.load(on_vectors).encode(VECTORS))


def with_data(representation, **changes):
    settings = representation.config["settings"]
    settings = {**settings, "data": {**settings["data"], **changes}}
    return dataclasses.replace(
        representation, config={**representation.config, "settings": settings}
    )


def test_pictures_are_prepared_as_those_of_the_run(workdir, tmp_path, caplog):
    PIL.Image.fromarray(RNG.integers(0, 256, (16, 40), np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"none")
    representation = with_data(bv.load(workdir), skip_bad=True, image_fit="pad")
    [stream] = encoding.open_input(representation, str(tmp_path))
    [chunk] = stream.chunks(4)
    [expected] = streams.stream_path(tmp_path, Look(16, 1, "pad"), skip_bad=True)
    np.testing.assert_array_equal(chunk.x, next(expected.chunks(4)).x)
    assert (chunk.names, "left out" in caplog.text) == (["a.png"], True)
    with pytest.raises(InputError, match=r"b\.png to be whole"):
        list(encoding.open_input(representation, str(tmp_path), skip_bad=False)[0].chunks(4))
    for x_shape in ((16, 8, 1), (16, 16, 2), (256,)):
        other = dataclasses.replace(representation, image_shape=x_shape)
        with pytest.raises(InputError, match=r"a file of arrays, .*, a folder of pictures"):
            encoding.open_input(other, str(tmp_path))


def test_the_kind_of_the_run_s_own_set_has_its_settings(workdir):
    [stream] = encoding.open_input(bv.load(workdir), "blobs")
    assert (stream.shape, stream.num_examples) == ((16, 16, 1), 64)


def test_codes_that_are_not_finite_leave_no_file(workdir, tmp_path):
    representation = bv.load(workdir)
    done = []
    for latent in (0, 3):  # a mean, a log-variance
        params = jax.tree.map(np.array, representation.params)
        params["encoder"]["posterior"]["bias"][latent] = np.inf
        spoilt = dataclasses.replace(representation, params=params)
        with pytest.raises(InputError, match="finite codes in blobs; got NaN or infinity"):
            encoding.encode_to_file(
                spoilt, encoding.open_input(spoilt, None), tmp_path / "c.npz", follow=done.append
            )
    assert (list(tmp_path.iterdir()), done) == ([], [])


def test_each_batch_is_told(workdir, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    np.save(tmp_path / "in.npy", IMAGES)
    representation, done = bv.load(workdir), []
    given = encoding.open_input(representation, "~/in.npy")
    output = tmp_path / "codes.npz"
    assert encoding.encode_to_file(representation, given, output, follow=done.append) == 11
    assert done == [4, 4, 3]


def test_another_data_set_by_name(invoke, workdir, tmp_path):
    path = tmp_path / "codes.csv"
    code, _, errors = invoke(f"--workdir={workdir}", "--input=digits", f"--output={path}")
    assert code == 2
    assert "expected examples of shape [16, 16, 1], as those" in errors
    assert "got [8, 8, 1] in digits" in errors
    assert list(tmp_path.iterdir()) == []


REFUSALS = [
    ([], "got no workdir"),
    (["--workdir=a"], "got no output"),
    (["--output=codes.txt"], "expected output to be a .npz, .csv, .parquet file; got codes.txt"),
    (["--output=no/codes.npz"], "expected output in a folder that exists"),
    (["--output=folder.npz"], "expected output to be a file; folder.npz is a folder"),
    (["--output=codes.npz", "--run=2"], "0 to 1; got 2"),
    (["--output=codes.npz", "--input=none"], "got none, which does not exist"),
    (["--output=codes.npz", "--input=tfds:none"], "expected the tfds set 'none' to be prepared"),
    (["--output=codes.npz", "--input=wide.npy"], "got [8, 9, 1] in wide.npy"),
    (["--output=codes.npz", "--input=flat.npy"], "got [256] in flat.npy"),
    (["--output=codes.npz", "--input=none.npy"], "at least one image"),
    (["--output=codes.csv", "--input=late.npy"], "(from example 8); got NaN or infinity"),
    (["--output=codes.npz", "--input=late.npy"], "(from example 8); got NaN or infinity"),
    (["--output=codes.parquet", "--input=late.npy"], "(from example 8); got NaN or infinity"),
    (["--output=codes.npz", "--input=bytes.npy"], "got 0 to 255 (rescale: images / 255)"),
    (["--output=codes.npz", "--input=pictures"], "b.png to be whole and readable"),
]


@pytest.mark.parametrize(("arguments", "says"), REFUSALS)
def test_refusals_are_one_line_and_leave_nothing(
    invoke, workdir, tmp_path, monkeypatch, arguments, says
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    np.save("wide.npy", IMAGES[:, :8, :9])
    np.save("flat.npy", IMAGES.reshape(11, 256))
    np.save("none.npy", IMAGES[:0])
    late = IMAGES / 255
    late[9, 3, 3] = np.nan
    np.save("late.npy", late)
    np.save("bytes.npy", IMAGES.astype(np.float32) * (IMAGES > 3))
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "pictures").mkdir()
    PIL.Image.fromarray(IMAGES[0]).save("pictures/a.png")
    (tmp_path / "pictures" / "b.png").write_bytes(b"")
    before = sorted(tmp_path.iterdir())
    given = arguments if arguments == [] or "--workdir=a" in arguments else [
        f"--workdir={workdir}", *arguments
    ]  # fmt: skip
    code, output, errors = invoke(*given)
    assert (code, output, errors.count("\n")) == (2, "", 1)
    assert says in errors
    assert sorted(tmp_path.iterdir()) == before


def test_an_older_file_stays_until_the_new_one_is_whole(invoke, workdir, tmp_path):
    path = tmp_path / "codes.npz"
    path.write_text("older")
    late = IMAGES / 255
    late[9, 3, 3] = np.nan
    np.save(tmp_path / "late.npy", late)
    arguments = (f"--workdir={workdir}", f"--output={path}")
    assert invoke(*arguments, f"--input={tmp_path / 'late.npy'}")[0] == 2
    assert path.read_text() == "older"
    assert invoke(*arguments)[0] == 0
    assert zipfile.is_zipfile(path)


def test_row_groups_hold_many_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(code_files, "_GROUP", 5)
    columns = code_files.Columns(1, ("mean_0", "split"), has_splits=True)
    with code_files.open_codes(tmp_path / "c.parquet", columns) as write:
        for i in range(7):
            ones = np.full((2, 1), i, np.float32)
            write(code_files.Codes(ones, -ones, np.zeros((2, 2), np.int32), [], "test"))
    file = pyarrow.parquet.ParquetFile(tmp_path / "c.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [6, 6, 2]
    # factors that are called as a column of ours is
    assert file.schema_arrow.names == ["split", "factor_mean_0", "factor_split", "mean_0",
                                       "log_variance_0"]  # fmt: skip
    assert file.read()["mean_0"].to_pylist() == [i for i in range(7) for _ in range(2)]


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_codes_are_on_the_disk_before_they_take_their_name(tmp_path, monkeypatch, suffix):
    """Else a node that is lost just then leaves the name, and not all bytes."""
    synced, moments, replace = {}, [], os.replace

    def noted(descriptor):
        status = os.fstat(descriptor)
        synced[status.st_ino] = status.st_size

    def renamed(source, target):
        status = os.stat(source)
        moments.append((os.path.basename(target), synced[status.st_ino] == status.st_size))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", renamed)
    with code_files.open_codes(tmp_path / f"codes{suffix}", code_files.Columns(1)) as write:
        ones = np.ones((2, 1), np.float32)
        write(code_files.Codes(ones, ones, np.zeros((2, 0), np.int32), []))
    assert moments == [(f"codes{suffix}", True)]


def test_texts_of_several_arrays_come_one_after_another(tmp_path, monkeypatch):
    monkeypatch.setattr(code_files, "_CHUNK", 3)
    names = [f"{10**i}.png" for i in range(7)]
    with code_files.open_codes(tmp_path / "C.NPZ", code_files.Columns(1, has_names=True)) as write:
        ones = np.ones((7, 1))  # doubles are written as floats
        write(code_files.Codes(ones, 2 * ones, np.zeros((7, 0), np.int32), names))
    arrays = read(tmp_path / "C.NPZ")
    assert arrays["files"].tolist() == names
    assert (arrays["mean"].dtype, arrays["mean"].tolist()) == (np.float32, ones.tolist())
    np.testing.assert_array_equal(arrays["log_variance"], 2 * ones)


@pytest.mark.parametrize("suffix", [".npz", ".csv", ".parquet"])
def test_names_of_files_that_are_no_utf8_are_written(tmp_path, suffix):
    names = ["ü.png", os.fsdecode(b"\xff\xfe.png")]
    path = tmp_path / f"codes{suffix}"
    with code_files.open_codes(path, code_files.Columns(1, has_names=True)) as write:
        ones = np.ones((2, 1), np.float32)
        write(code_files.Codes(ones, ones, np.zeros((2, 0), np.int32), names))
    if suffix == ".npz":
        assert read(path)["files"].tolist() == names
        return
    table = (pyarrow.csv.read_csv if suffix == ".csv" else pyarrow.parquet.read_table)(path)
    assert table["file"].to_pylist() == ["ü.png", r"\udcff\udcfe.png"]
