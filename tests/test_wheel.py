"""The package as a user installs it: a wheel, a clean environment, no checkout in sight."""

import os
import pathlib
import re
import subprocess
import sys
import zipfile

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
TRAIN = (
    "--image_size=16 --blob_grid=8 --blob_margin=4 --batch_size=8 --num_latents=2 --num_steps=6"
    " --log_every=3 --network=mlp --network_widths=8 --network_decoder_widths=8 --workdir=runs/NAME"
)
SNIPPET = """
import betavae_jax as bv

model = bv.load("runs/NAME")
images = model.sample(0, 4)
print(model.encode(images).mean.shape, model.edit(images[0], {"z1": 2.0}).shape)
"""

pytestmark = pytest.mark.slow  # every dependency is installed anew


def call(*command, cwd):
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "XLA_FLAGS"))}
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env=outside, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    call(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--disable-pip-version-check",
         "--wheel-dir", folder, ROOT, cwd=folder)  # fmt: skip
    [path] = folder.glob("betavae_jax-*.whl")
    return path


def test_the_wheel_holds_every_file_of_the_packages(wheel):
    tracked = subprocess.run(
        ["git", "ls-files", "betavae_jax", "experiments"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    ).stdout.split()  # fmt: skip
    if not tracked:
        pytest.skip("no git checkout")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert set(tracked) <= held
    assert "betavae_jax/py.typed" in held
    assert {name.split("/")[0] for name in held if ".dist-info/" not in name} == {
        "betavae_jax", "experiments",
    }  # fmt: skip


def test_what_the_readme_shows_works_outside_the_checkout(wheel, tmp_path):
    call(sys.executable, "-m", "venv", "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    call(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "--constraint", ROOT / "constraints.txt", f"{wheel}[export,sklearn]",
         cwd=tmp_path)  # fmt: skip
    where = call(python, "-c", "import betavae_jax; print(betavae_jax.__file__)", cwd=tmp_path)
    assert str(tmp_path / "venv") in where
    assert "report:" in call(python, "-m", "experiments.train", *TRAIN.split(), cwd=tmp_path)
    assert (tmp_path / "runs" / "NAME" / "report.html").exists()
    shown = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    for snippet in [SNIPPET, *shown]:
        call(python, "-W", "error::DeprecationWarning:betavae_jax", "-c", snippet, cwd=tmp_path)
    call(python, "-m", "experiments.encode", "--workdir=runs/NAME", "--output=c.npz", cwd=tmp_path)
    formats = "--format=stablehlo,safetensors,onnx"
    call(python, "-m", "experiments.export", "--workdir=runs/NAME", formats, "--output=out",
         cwd=tmp_path)  # fmt: skip
