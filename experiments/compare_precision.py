"""Compares the test ELBO of networks computed in bf16 with that in float32, seed by seed.

  python -m experiments.compare_precision          # dSprites, VAE: about a minute on an H200

Each precision trains one population: the same seeds, batches and samples. The difference is of
the same seed's two ELBOs on held-out images, in per cent of the float32 one; its spread over
seeds is told beside how far seeds lie apart in float32. Exit code 1 where the mean differs by
more than half a per cent.
"""

import time

import jax
import numpy as np
from absl import flags

from betavae_jax.codes import make_bound
from betavae_jax.fit import feed_of, fit, program_of
from betavae_jax.population import num_runs
from betavae_jax.runs.records import write_json
from betavae_jax.runs.settings import Settings, build
from experiments import cli
from experiments.bench.precision import compare
from experiments.path_flags import define_path, new_file

_DATASET = flags.DEFINE_string("dataset", "dsprites", "What is learned.")
_SEEDS = flags.DEFINE_integer("num_seeds", 16, "Runs of each precision.", lower_bound=2)
_STEPS = flags.DEFINE_integer("num_steps", 5_000, "Adam steps.", lower_bound=1)
_BETA = flags.DEFINE_float("beta", 1.0, "Of the β-VAE; at 1 the ELBO is what is maximised.")
_RATE = flags.DEFINE_float("learning_rate", 5e-4, "Of Adam.", lower_bound=0)
_NETWORK = flags.DEFINE_string("network", "conv_locatello", "The network.")
_CONVOLUTION = flags.DEFINE_string("convolution", "auto", "The form of the convolutions.")
_OUTPUT = define_path("output", None, "A JSON file for the figures.")


def _train_and_evaluate(precision: str) -> np.ndarray:
    """Trains a population and evaluates it on held-out examples -> ELBO `[R]`, nats."""
    experiment = build(
        Settings(
            dataset=_DATASET.value,
            test_fraction=0.05,
            objective="beta_vae",
            coefficients={"beta": [_BETA.value]},
            learning_rate=[_RATE.value],
            seed=tuple(range(_SEEDS.value)),
            num_steps=_STEPS.value,
            network=_NETWORK.value,
            network_settings={"convolution": _CONVOLUTION.value},
            precision=precision,
        )
    )
    test = experiment.splits.test
    if test is None:
        raise ValueError("expected a test split")
    program = program_of(experiment)
    feed = feed_of(experiment, program)
    fitted = fit(program, experiment.runs, feed, num_steps=_STEPS.value)
    bound = make_bound(experiment.model, test, program, num_runs(experiment.runs))
    return bound(fitted.carry.state.params).elbo


def main() -> int:
    """Trains both, prints the comparison and says whether they agree."""
    cli.exclude_nondeterministic_operations()
    output, began = new_file(_OUTPUT), time.monotonic()
    figures = compare(_train_and_evaluate("float32"), _train_and_evaluate("bf16"))
    figures |= {
        "device": jax.devices()[0].device_kind,
        "num_steps": _STEPS.value,
        "seconds": time.monotonic() - began,
    }
    for name in ("float32", "bf16"):
        elbo = np.asarray(figures[name])
        print(f"{name:>7}: test ELBO {elbo.mean():.2f} ± {elbo.std(ddof=1):.2f} nats")
    print(
        f"bf16 - float32: {figures['difference_percent']:.3f} ± "
        f"{figures['standard_error_percent']:.3f} %, seed by seed; seeds differ by "
        f"{figures['seeds_percent']:.2f} %; {figures['seconds']:.0f} s"
    )
    if output:
        write_json(output, figures)
    return 0 if figures["within_tolerance"] else cli.EXIT_TROUBLE


if __name__ == "__main__":
    cli.run(main)
