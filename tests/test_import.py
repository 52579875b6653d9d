"""What importing costs: no backend, nothing heavy."""

import subprocess
import sys

import pytest

HEAVY = ["tensorflow_datasets", "tensorflow", "orbax", "matplotlib", "sklearn", "PIL", "torch"]

MODULES = [
    "betavae_jax",
    "betavae_jax.fit",
    "betavae_jax.report",
    "betavae_jax.evaluation",
    "experiments.settings_flags",
]


@pytest.mark.parametrize("module", MODULES)
def test_import_loads_nothing_heavy_and_starts_no_backend(module):
    code = (
        f"import sys, {module}\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules])\n"
        "import jax\n"
        "print(jax._src.xla_bridge.backends_are_initialized())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "False"]
