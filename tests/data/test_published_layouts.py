"""Small files in the layouts of published sets, and the conversions that docs/data.md gives."""

import pathlib
import re
import runpy

import h5py
import numpy as np
import PIL.Image
import pytest
import scipy.io

from betavae_jax.data import load_dataset

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "data.md"
RNG = np.random.default_rng(0)


@pytest.fixture
def convert(tmp_path, monkeypatch):
    """Runs a script of the page in a folder of its own."""
    scripts = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(), re.DOTALL)

    def run(name):
        (tmp_path / name).write_text(dict(scripts)[name])
        monkeypatch.chdir(tmp_path)
        runpy.run_path(str(tmp_path / name))

    return run


def images_of(n, side=8):
    return RNG.integers(0, 256, (n, side, side, 3), np.uint8)


def test_3dshapes(tmp_path, convert):
    """`labels` hold values: hues from 0 to 0.9, a scale, a shape, an angle."""
    values = [np.arange(3) / 10, np.linspace(0.75, 1.25, 4), np.arange(2.0), [-30.0, 0, 30]]
    labels = np.stack(np.meshgrid(*values, indexing="ij"), -1).reshape(-1, 4)
    images = images_of(len(labels))
    with h5py.File(tmp_path / "3dshapes.h5", "w") as file:
        file.update({"images": images, "labels": labels})
    names = "floor_hue,scale,shape,orientation"
    path = tmp_path / "3dshapes.h5"
    dataset = load_dataset("arrays", data_dir=path, factor_names=names).train
    assert dataset.space == (tuple(names.split(",")), (3, 4, 2, 3), True)
    np.testing.assert_array_equal(dataset.arrays.images, images)
    np.testing.assert_array_equal(dataset.arrays.factors, list(np.ndindex(3, 4, 2, 3)))
    convert("to_npy.py")
    path, sizes = tmp_path / "3dshapes.npy", "3,4,2,3"
    again = load_dataset("arrays", data_dir=path, factor_names=names, factor_sizes=sizes).train
    assert again.space == dataset.space
    for one, other in zip(again.arrays, dataset.arrays, strict=True):
        np.testing.assert_array_equal(one, other)


def test_mpi3d(tmp_path):
    images = images_of(2 * 3 * 2 * 4)
    np.savez(tmp_path / "mpi3d_toy.npz", images=images)
    settings = {"factor_sizes": "2,3,2,4", "factor_names": "color,shape,size,axis"}
    dataset = load_dataset("arrays", data_dir=tmp_path, **settings).train
    assert dataset.space == (("color", "shape", "size", "axis"), (2, 3, 2, 4), True)
    np.testing.assert_array_equal(dataset.arrays.images, images)


def test_dsprites_as_arrays(tmp_path):
    classes = np.array(list(np.ndindex(1, 3, 2, 2)))
    np.savez(
        tmp_path / "dsprites.npz",
        metadata=np.array({"title": "dSprites"}),
        imgs=RNG.integers(0, 2, (12, 8, 8), np.uint8),
        latents_values=classes / 2,
        latents_classes=classes,
    )
    dataset = load_dataset("arrays", data_dir=tmp_path).train
    assert dataset.space.sizes == (1, 3, 2, 2)
    assert dataset.space.full_grid
    assert set(np.unique(dataset.arrays.images)) == {0, 255}


def test_cars3d(tmp_path, convert):
    folder = tmp_path / "data" / "cars"
    folder.mkdir(parents=True)
    cars = RNG.integers(0, 256, (2, 128, 128, 3, 24, 4), np.uint8)
    for k, car in enumerate(cars):
        scipy.io.savemat(folder / f"car_{k:03d}_mesh.mat", {"im": car})
    convert("cars3d.py")
    settings = {"factor_sizes": "4,24,2", "factor_names": "elevation,azimuth,object"}
    dataset = load_dataset("arrays", data_dir=tmp_path / "cars3d.npz", **settings).train
    assert dataset.space == (("elevation", "azimuth", "object"), (4, 24, 2), True)
    for index in (0, 77, 191):
        elevation, azimuth, car = dataset.arrays.factors[index]
        view = PIL.Image.fromarray(cars[car, ..., azimuth, elevation])
        expected = view.resize((64, 64), PIL.Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(dataset.arrays.images[index], expected)


def write_norb(path, array):
    """Writes the format from its description: magic, dimensions (at least three), data."""
    magic = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54}[array.dtype.name]
    shape = [*array.shape, 1, 1][: max(3, array.ndim)]
    header = np.array([magic, array.ndim, *shape], "<i4")
    path.write_bytes(header.tobytes() + array.tobytes())


def test_smallnorb(tmp_path, convert):
    written = {}
    for name, instances in [("46789x9x18x6x2x96x96-training", [4, 9]),
                            ("01235x9x18x6x2x96x96-testing", [0, 1])]:  # fmt: skip
        values = [range(2), instances, range(3), range(0, 8, 2), range(2)]
        grid = np.stack(np.meshgrid(*values, indexing="ij"), -1).reshape(-1, 5).astype(np.int32)
        grid = RNG.permutation(grid)
        pairs = RNG.integers(0, 256, (len(grid), 2, 6, 6), np.uint8)
        contents = {"dat": pairs, "cat": grid[:, 0].copy(), "info": grid[:, 1:].copy()}
        for kind, content in contents.items():
            write_norb(tmp_path / f"smallnorb-5x{name}-{kind}.mat", content)
        written[name[-5:]] = (grid, pairs)
    convert("smallnorb.py")
    names = "category,instance,elevation,azimuth,lighting"
    path = tmp_path / "smallnorb.npz"
    splits = load_dataset("arrays", data_dir=path, factor_names=names)
    for dataset, (grid, pairs) in zip(splits, written.values(), strict=True):
        assert dataset.space == (tuple(names.split(",")), (2, 2, 3, 4, 2), True)
        order = np.lexsort(grid.T[::-1])
        np.testing.assert_array_equal(dataset.arrays.images[..., 0], pairs[order, 0])
        np.testing.assert_array_equal(dataset.arrays.factors[:, 3], grid[order, 3] // 2)
