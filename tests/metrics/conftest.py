"""Reference cases, and a small representation whose factors are known."""

import importlib.util
import json

import numpy as np
import pytest

SIZES = (3, 4, 5)


@pytest.fixture(scope="session")
def metrics_reference(reference_data):
    folder = reference_data / "metrics_reference"
    if not folder.is_dir():
        pytest.skip("no reference values of metrics beside this checkout")
    return folder


@pytest.fixture(scope="session")
def load_case(metrics_reference):
    """Loads a case: its arrays, and what the original code made of them."""
    cases = {}

    def load(name):
        if name not in cases:
            with np.load(metrics_reference / f"{name}.npz") as arrays:
                values = json.loads((metrics_reference / f"{name}.json").read_text())
                cases[name] = dict(arrays), values
        return cases[name]

    return load


@pytest.fixture(scope="session")
def representations(metrics_reference):
    """The reference cases as functions of the factors."""
    path = metrics_reference / "representations.py"
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location("_cases", path))
    exec(compile(path.read_text(), str(path), "exec"), module.__dict__)  # leaves no cache behind
    return module


def draw_factors(rows, seed):
    return np.random.default_rng(seed).integers(SIZES, size=(rows, len(SIZES)))


def encode(factors, noise=0.1, seed=0):
    """Five latents: three standardised factors, each with some noise, and two of noise alone."""
    sizes = np.asarray(SIZES)
    clean = (factors - (sizes - 1) / 2) / np.sqrt((sizes**2 - 1) / 12)
    draws = np.random.default_rng(seed).normal(size=(len(factors), 5))
    return np.concatenate([clean + noise * draws[:, :3], draws[:, 3:]], axis=1).astype(np.float32)


class Small:
    factors_train, factors_test = draw_factors(2000, 1), draw_factors(1000, 2)
    codes_train, codes_test = encode(factors_train, seed=1), encode(factors_test, seed=2)
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(5, 5)))[0]


@pytest.fixture(scope="session")
def small():
    return Small
