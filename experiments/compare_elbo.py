"""Compares the test ELBO of ours with that of a plain PyTorch VAE of the same shape.

  python -m experiments.compare_elbo --data_dir=FOLDER        # of Fashion-MNIST's idx files

Both train a VAE (conv, Bernoulli, 10 latents, Adam) for the same number of steps of the same
batch size, from as many seeds, on the training images, and are evaluated on all test images with
one sample each. The two agree where the difference of their means is within three standard
deviations of what the seeds leave open. PyTorch is the extra `torch`.
"""

from typing import Any

import numpy as np
from absl import flags

from betavae_jax.checks import InputError
from betavae_jax.codes import make_bound
from betavae_jax.data.arrays import load_arrays
from betavae_jax.data.files import import_optional
from betavae_jax.fit import feed_of, fit, program_of
from betavae_jax.population import num_runs
from betavae_jax.runs.records import write_json
from betavae_jax.runs.settings import Settings, build
from experiments import cli
from experiments.path_flags import define_path, new_file

_DATA_DIR = define_path("data_dir", None, "A folder with MNIST-style idx files.")
_SEEDS = flags.DEFINE_integer("num_seeds", 3, "Runs of each.", lower_bound=2)
_STEPS = flags.DEFINE_integer("num_steps", 3_000, "Adam steps.", lower_bound=1)
_RATE = flags.DEFINE_float("learning_rate", 1e-3, "Of Adam.", lower_bound=0)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 64, "Examples in a batch.", lower_bound=1)
_LATENTS = flags.DEFINE_integer("num_latents", 10, "Width of the code z.", lower_bound=1)
_OUTPUT = define_path("output", None, "A JSON file for the figures.")


def _ours() -> list[float]:
    experiment = build(
        Settings(
            dataset="arrays",
            data={"data_dir": _DATA_DIR.value},
            objective="vae",
            learning_rate=[_RATE.value],
            seed=tuple(range(_SEEDS.value)),
            num_steps=_STEPS.value,
            batch_size=_BATCH_SIZE.value,
            num_latents=_LATENTS.value,
            network="conv",
        )
    )
    if experiment.splits.test is None:
        raise InputError(f"expected {_DATA_DIR.value} to hold test images too; got none")
    program = program_of(experiment)
    feed = feed_of(experiment, program)
    fitted = fit(program, experiment.runs, feed, num_steps=_STEPS.value)
    runs, test = num_runs(experiment.runs), experiment.splits.test
    bound = make_bound(experiment.model, test, program, runs, num_rows=test.num_examples)
    elbo: list[float] = bound(fitted.carry.state.params).elbo.tolist()
    return elbo


def _theirs() -> list[float]:
    from experiments.peers.torch_vae import train_and_evaluate

    splits = load_arrays(data_dir=_DATA_DIR.value)
    if splits.test is None:
        raise InputError(f"expected {_DATA_DIR.value} to hold test images too; got none")
    train, test = (data.arrays.images[..., 0] for data in (splits.train, splits.test))
    return [
        train_and_evaluate(
            train,
            test,
            seed=seed,
            num_steps=_STEPS.value,
            batch_size=_BATCH_SIZE.value,
            num_latents=_LATENTS.value,
            learning_rate=_RATE.value,
        )
        for seed in range(_SEEDS.value)
    ]


def main() -> int:
    """Trains both, prints the comparison and says whether they agree."""
    if not _DATA_DIR.value:
        raise InputError("expected data_dir to be a folder with idx files; got none")
    output = new_file(_OUTPUT)
    import_optional("torch", "torch", "to compare with")  # before anything is trained
    figures: dict[str, Any] = {"num_steps": _STEPS.value, "ours": _ours(), "torch": _theirs()}
    for name in ("ours", "torch"):
        elbo = np.asarray(figures[name])
        print(f"{name:>6}: test ELBO {elbo.mean():.2f} ± {elbo.std(ddof=1):.2f} nats, {elbo}")
    ours, theirs = np.asarray(figures["ours"]), np.asarray(figures["torch"])
    spread = float(np.sqrt((ours.var(ddof=1) + theirs.var(ddof=1)) / 2))
    figures["difference"] = float(ours.mean() - theirs.mean())
    figures["standard_deviations"] = figures["difference"] / spread
    print(
        f"ours - torch: {figures['difference']:.2f} nats, {figures['standard_deviations']:.1f} sd"
    )
    if output:
        write_json(output, figures)
    return 0 if abs(figures["standard_deviations"]) <= 3 else cli.EXIT_TROUBLE


if __name__ == "__main__":
    cli.run(main)
