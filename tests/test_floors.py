"""A file imports strictly lower floors, or files of its own package."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]

FLOORS = {
    "types": 0,
    "checks": 0,
    "kernels": 0,
    "gaussian": 1,
    "likelihoods": 1,
    "divergences": 1,
    "grids": 1,
    "schedules": 1,
    "memory": 1,
    "mapped": 1,
    "layers": 1,
    "initial_values": 1,
    "critics": 1,
    "aggregate": 2,
    "networks": 2,
    "objectives": 2,
    "data": 2,
    "metrics": 2,
    "plots": 2,
    "models": 3,
    "chain": 3,
    "downstream": 3,
    "training": 4,
    "population": 5,
    "codes": 5,
    "feed": 5,
    "runs": 6,
    "fit": 7,
    "fit_directory": 7,
    "evaluation": 7,
    "restore": 7,
    "coding": 7,
    "examples": 3,
    "factor_codes": 7,
    "representation": 7,
    "estimator_settings": 7,
    "in_memory": 7,
    "report": 7,
    "study": 8,
    "estimator": 8,
    "export": 8,
}
EXPERIMENTS = 9
# The files of a floor that compose others of it, lowest first.
WITHIN = {
    "gaussian": 0,
    "layers": 0,
    "initial_values": 0,
    "divergences": 1,
    "critics": 1,
    "population": 2,
    "codes": 3,
    "feed": 3,
    "fit": 4,
    "fit_directory": 5,
    "restore": 5,
    "coding": 6,
    "in_memory": 6,
    "representation": 7,
    "factor_codes": 5,
    "report": 8,
}


def module_of(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[1] if parts[0] == "betavae_jax" else None


def imported_modules(source):
    """The names under `betavae_jax` that a file imports, at any depth."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "betavae_jax":
                yield from (alias.name for alias in node.names)
            elif node.module.startswith("betavae_jax."):
                yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("betavae_jax."):
                    yield alias.name.split(".")[1]


def may_import(importer, imported):
    if importer == imported:
        return True
    if importer in WITHIN and imported in WITHIN:
        return WITHIN[imported] < WITHIN[importer]
    return FLOORS[imported] < FLOORS[importer]


PACKAGE = sorted((ROOT / "betavae_jax").rglob("*.py"))


@pytest.mark.parametrize("path", PACKAGE, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_down(path):
    importer = module_of(path)
    if importer == "__init__":
        return  # the public face re-exports from every floor
    assert importer in FLOORS, f"{path.name} has no floor"
    upward = [m for m in imported_modules(path.read_text()) if not may_import(importer, m)]
    assert upward == []


def test_the_package_does_not_import_the_drivers():
    for path in PACKAGE:
        tree = ast.parse(path.read_text())
        names = [
            name
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
            for name in ([node.module or ""] if isinstance(node, ast.ImportFrom)
                         else [alias.name for alias in node.names])
        ]  # fmt: skip
        assert not [name for name in names if name.split(".")[0] == "experiments"]


def test_the_check_sees_an_upward_import():
    assert list(imported_modules("from betavae_jax.fit import fit\nimport betavae_jax.codes")) == [
        "fit",
        "codes",
    ]
    assert not may_import("training", "fit")
    assert not may_import("data", "metrics")
    assert may_import("fit", "training")
