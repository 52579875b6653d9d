"""What every driver does before its own work."""

import os
import subprocess
import sys

import pytest

DRIVER = """
import jax
from experiments import cli

def main():
    print(jax.device_count())
    return 0

cli.run(main)
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, os.cpu_count()),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 3),
        ({"JAX_NUM_CPU_DEVICES": "1"}, 1),
    ],
)
def test_a_core_is_a_device_unless_told_otherwise(given, expected):
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER],
        env={**environment, **given},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, f"{expected}\n"), done.stderr
