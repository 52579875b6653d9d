"""What importing costs: no backend, nothing heavy, half a second beyond JAX."""

import pathlib
import subprocess
import sys
import tomllib

import pytest

import betavae_jax

HEAVY = ["tensorflow_datasets", "tensorflow", "orbax", "matplotlib", "sklearn", "PIL", "torch"]

MODULES = [
    "betavae_jax",
    "betavae_jax.fit",
    "betavae_jax.report",
    "betavae_jax.evaluation",
    "experiments.settings_flags",
]


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


@pytest.mark.parametrize("module", MODULES)
def test_import_loads_nothing_heavy_and_starts_no_backend(module):
    code = (
        f"import sys, {module}\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])\n"
        "import jax\n"
        "print(jax._src.xla_bridge.backends_are_initialized())\n"
    )
    assert run(code).stdout.splitlines() == ["[]", "False"]


def test_the_public_face_loads_jax_flax_and_optax_alone():
    code = (
        "import sys, jax\n"
        "before = set(sys.modules)\n"
        "import betavae_jax\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new & {'scipy', 'sklearn', 'pandas', 'h5py', 'joblib', 'tensorboardX',\n"
        "                    'tensorstore', 'onnx', 'safetensors', 'experiments'}))\n"
    )
    assert run(code).stdout.strip() == "[]"


def test_importing_takes_half_a_second_beyond_jax():
    code = (
        "import time, jax\n"
        "start = time.process_time()\n"  # of this process: others may keep the machine busy
        "import betavae_jax\n"
        "print(time.process_time() - start)\n"
    )
    assert min(float(run(code).stdout) for _ in range(4)) < 0.5


def test_every_public_name_is_there():
    for name in betavae_jax.__all__:
        assert getattr(betavae_jax, name) is not None
    assert set(betavae_jax.__all__) <= set(dir(betavae_jax))
    with pytest.raises(AttributeError, match="no attribute 'BetterVAE'"):
        _ = betavae_jax.BetterVAE


def test_the_version_is_that_of_the_project():
    path = pathlib.Path(__file__).resolve().parents[1] / "pyproject.toml"
    assert betavae_jax.__version__ == tomllib.loads(path.read_text())["project"]["version"]


def test_without_scikit_learn_its_estimator_alone_is_missing():
    code = (
        "import sys\n"
        "sys.modules['sklearn'] = None\n"
        "import betavae_jax\n"
        "try:\n"
        "    betavae_jax.BetaVAE\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    lines = run(code).stdout.splitlines()
    assert len(lines) == 1
    assert "pip install 'betavae_jax[sklearn]'" in lines[0]


@pytest.mark.parametrize("installed", [True, False])
def test_all_names_are_imported_at_once_but_those_of_what_is_missing(installed):
    code = (
        "import sys\n"
        f"if not {installed}:\n"
        "    sys.modules['sklearn'] = None\n"
        "from betavae_jax import *\n"
        "print(METRICS is not None, 'BetaVAE' in globals())\n"
    )
    assert run(code).stdout.split() == ["True", str(installed)]
