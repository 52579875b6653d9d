"""The contracts that every part of the package speaks.

Axis letters, here and everywhere: `R` runs, `V` views of a batch, `B` batch,
`N` examples, `H W C` image, `D` latents, `K` factors, `T` steps.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np
import optax

Array: TypeAlias = jax.Array
Leaf: TypeAlias = Any  # an array on a device, or its NumPy twin on the host
Arrays: TypeAlias = Any  # a pytree of arrays
Params: TypeAlias = Any  # {"encoder": pytree, "decoder": pytree}
Shape: TypeAlias = tuple[int, ...]


class Posterior(NamedTuple):
    """A diagonal Gaussian q(z|x) for each example."""

    mean: Array  # [B, D]
    log_variance: Array  # [B, D]


class Terms(NamedTuple):
    """What one step reports, in nats; `elbo = -(distortion + rate)`."""

    loss: Array  # [], what was minimised
    distortion: Array  # [], -E log p(x|z), summed over pixels, mean over the batch
    rate: Array  # [], KL(q(z|x) || p(z)), summed over latents, mean over the batch
    kl_per_latent: Array  # [D], mean over the batch
    extras: dict[str, Array]  # further terms by their published names, each []


class Batch(NamedTuple):
    """`V` views of a batch: one, or two (an independent second batch, or pairs)."""

    x: Array  # [V, B, H, W, C] or [V, B, F]
    factors: Array  # [V, B, K] int32; K = 0 where none are known
    num_examples: int  # N, the size of the set that the batch was drawn from


class FactorSpace(NamedTuple):
    """Names and sizes of the known factors of variation.

    On a full grid every combination of factor values is one example, and
    examples stand in row-major order of the factors.
    """

    names: tuple[str, ...]  # K names
    sizes: tuple[int, ...]  # K sizes
    full_grid: bool


def draw_uniformly(arrays: Arrays, key: Array, shape: Shape, num_examples: int) -> Array:
    """Draws rows of a set uniformly and with replacement: index of the given shape, int32."""
    del arrays
    return jax.random.randint(key, shape, 0, num_examples)


class Scale(NamedTuple):
    """How examples were standardised."""

    mean: np.ndarray  # [F] of vectors, [C] of images
    scale: np.ndarray  # likewise

    def standardize(self, values: np.ndarray) -> np.ndarray:
        """Brings examples `[..., F]` to mean 0 and scale 1."""
        return (values - self.mean) / self.scale

    def restore(self, x: np.ndarray) -> np.ndarray:
        """Gives standardised examples their own units again."""
        return x * self.scale + self.mean


class Dataset(NamedTuple):
    """Examples that live on the device.

    `arrays` travel as an argument of the compiled program; the functions are
    pure and receive them back. `take` works on the host and restricts the arrays
    to some rows, in their order; it is `()` where examples are computed from the
    index alone, which needs no memory to spare.
    """

    arrays: Arrays
    gather: Callable[[Arrays, Array, Array], Array]  # (arrays, index [B], key) -> x [B, ...]
    factors: Callable[[Arrays, Array], Array]  # (arrays, index [B]) -> [B, K] int32
    space: FactorSpace | None
    num_examples: int
    draw: Callable[[Arrays, Array, Shape, int], Array] = draw_uniformly
    # ^ (arrays, key, shape, num_examples) -> index of that shape
    take: Callable[[Arrays, np.ndarray], Arrays] | tuple[()] = ()  # (arrays, rows [M]) -> arrays
    scale: Scale | None = None  # of vectors, where they were standardised


class Splits(NamedTuple):
    """The examples to learn from, and those kept for evaluation where there are any."""

    train: Dataset
    test: Dataset | None


class Network(NamedTuple):
    """An encoder and a decoder as pure functions of their parameters."""

    init: Callable[[Array], Params]  # key -> {"encoder": ..., "decoder": ...}
    encode: Callable[[Params, Array], Posterior]  # (encoder params, x [B, ...]) -> Posterior
    decode: Callable[[Params, Array], Array]  # (decoder params, z [B, D]) -> [B, ...]


class Likelihood(NamedTuple):
    """p(x|z), given what the decoder network returns.

    `natural` turns the network's output `[B, ...]` and the likelihood's own
    parameters (`()` where it has none) into the density's natural parameters, any
    pytree. Whether x lies in [0, 1] where it must cannot be seen inside a compiled
    program: whoever loads the data checks it.
    """

    init: Callable[[], Params]
    natural: Callable[[Params, Array], Any]
    log_likelihood: Callable[[Any, Array], Array]  # (natural, x [B, ...]) -> [B], nats
    mean: Callable[[Any], Array]  # natural -> x [B, ...]
    unit_interval: bool = False  # whether x must lie in [0, 1]
    of_a_batch: bool = False  # whether an example's density depends on those beside it


class Model(NamedTuple):
    """A network with a likelihood, as pure functions of one parameter tree."""

    init: Callable[[Array], Params]  # key -> {"encoder": ..., "decoder": ...}
    encode: Callable[[Params, Array], Posterior]  # (params, x [B, ...]) -> Posterior
    decode: Callable[[Params, Array], Any]  # (params, z [B, D]) -> natural
    log_likelihood: Callable[[Any, Array], Array]  # (natural, x [B, ...]) -> [B]
    mean: Callable[[Any], Array]  # natural -> x [B, ...]


def leave_data(data: Dataset) -> Dataset:
    """Adds nothing to a set."""
    return data


class Objective(NamedTuple):
    """What a run minimises.

    An objective without a critic has `()` for the critic's parameters and for
    `evidence`; gradients and optimisers of `()` do nothing, so one train step
    serves every objective. `evidence` reaches `critic_loss` without gradient.
    """

    Coefficients: type  # a NamedTuple of floats with the paper's defaults
    draw: Callable[[Array, int, Dataset], Array]  # (key, batch_size, data) -> index [V, B]
    init_critic: Callable[[Array, Shape, int], Params]  # (key, x_shape, num_latents)
    loss: Callable[..., tuple[Array, tuple[Terms, Any]]]
    # ^ (params, critic, model, batch, coefficients, key) -> (scalar, (Terms, evidence))
    critic_loss: Callable[..., tuple[Array, dict[str, Array]]]
    # ^ (critic, evidence, coefficients, key) -> (scalar, extras)
    optimizer: Callable[[Array], optax.GradientTransformation]  # of the learning rate
    critic_optimizer: Callable[[Array], optax.GradientTransformation]
    schedules: tuple[tuple[str, str], ...] = ()  # as published: (coefficient, specification)
    prepare: Callable[[Dataset], Dataset] = leave_data
    # ^ on the host, once, before training: adds to a set what `draw` looks up there


class Schedule(NamedTuple):
    """How a coefficient approaches its value; see `schedules.scheduled_value`."""

    start: Leaf  # float32, the value at the first step of a rise
    rise: Leaf  # int32, steps from there to the coefficient's own value
    period: Leaf  # int32, steps after which it starts again; 0 for never


class RunSettings(NamedTuple):
    """What distinguishes the runs of a population; every leaf is `[R]`."""

    coefficients: Any  # the objective's Coefficients, float32
    learning_rate: Leaf  # float32
    seed: Leaf  # int32
    schedules: Mapping[str, Schedule] = {}  # of those coefficients that are not constant


class TrainState(NamedTuple):
    """What a run carries from step to step; of a population, every leaf has a leading `R`."""

    params: Params
    critic: Params
    opt_state: optax.OptState
    critic_opt_state: optax.OptState
    step: Array  # [] int32, updates done
    failed_at: Array  # [] int32, the step whose loss or gradient was not finite, or -1
