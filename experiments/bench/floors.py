"""The least that a step can take: its arithmetic and its traffic over rates measured here."""

import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

WIDTHS = (32, 32, 64, 64)  # conv_locatello
_WIDTH, _SIDE, _LATENTS = 256, 64, 10
_TAPS = 16
_REPEATS, _TIMES = 5, 5  # calls, and how often each of them


class Layer(NamedTuple):
    """A layer's size, for one example."""

    name: str
    products: int  # multiply-adds, forward
    inputs: int  # numbers read
    outputs: int  # numbers written
    weights: int


def layers(widths: tuple[int, ...] = WIDTHS, channels: int = 1) -> list[Layer]:
    """The layers of `conv_locatello` for 64×64 images, encoder first."""
    found = []
    side, before = _SIDE, channels
    for number, after in enumerate(widths):
        side //= 2
        pixels = side * side
        found.append(
            Layer(
                f"conv_{number}",
                pixels * _TAPS * before * after,
                4 * pixels * before,
                pixels * after,
                _TAPS * before * after,
            )
        )
        before = after
    flat = side * side * before
    dense = [("dense", flat, _WIDTH), ("posterior", _WIDTH, 2 * _LATENTS)]
    dense += [("decoder_dense", _LATENTS, _WIDTH), ("feature_map", _WIDTH, flat)]
    middle = [Layer(name, a * b, a, b, a * b) for name, a, b in dense]
    mirrored = [
        Layer(f"transposed_{i}", layer.products, layer.outputs, layer.inputs, layer.weights)
        for i, layer in enumerate(reversed(found))
    ]
    return [*found, *middle, *mirrored]


def step_flops(batch_size: int) -> int:
    """FLOPs of the matrix products of a step: forward, and back to inputs and to weights.

    The images need no gradient, so the first layer goes back to its weights alone.
    """
    found = layers()
    total = 3 * sum(layer.products for layer in found) - found[0].products
    return 2 * batch_size * total


def step_bytes(batch_size: int, bytes_a_number: int = 4) -> int:
    """The least bytes of a step whose layers are each one kernel forward, and two back.

    Forward each layer reads its inputs and writes its outputs. Back it reads the gradient of its
    outputs and the outputs, for the activation, twice, and its inputs; and writes the gradient
    of its inputs. Adam reads four numbers a weight and writes three, in float32.
    """
    found = layers()
    forward = sum(layer.inputs + layer.outputs for layer in found)
    back = sum(4 * layer.outputs + 2 * layer.inputs for layer in found) - found[0].inputs
    pixels = 3 * _SIDE * _SIDE  # the likelihood reads logits and images, writes a gradient
    weights = sum(layer.weights for layer in found)
    return batch_size * bytes_a_number * (forward + back + pixels) + 4 * 7 * weights


def measure_rates(*, size: int, megabytes: int) -> dict[str, Any]:
    """Measures matrix products, and passes over memory, in JAX: FLOPs and bytes a second.

    Args:
      size: Of the square matrices.
      megabytes: Of the array that a pass reads and writes.
    """
    import jax
    import jax.numpy as jnp

    a, b = jax.random.normal(jax.random.key(0), (2, size, size))
    rates = {}
    kinds = {"float32": ("default", jnp.float32), "bf16": ("default", jnp.bfloat16)}
    if jax.default_backend() != "cpu":
        kinds["float32_highest"] = ("highest", jnp.float32)
    for name, (precision, dtype) in kinds.items():
        product = functools.partial(jnp.dot, precision=precision)
        seconds = best_seconds(product, a.astype(dtype), (b / size**0.5).astype(dtype))
        rates[f"{name}_flops_a_second"] = 2 * size**3 / seconds
    x = jax.random.normal(jax.random.key(1), (megabytes * 250_000,))
    seconds = best_seconds(lambda x: x + 1, x)
    rates["bytes_a_second"] = 2 * x.nbytes / seconds
    return rates


def best_seconds(function: Callable[..., Any], x: Any, *rest: Any) -> float:
    """The least seconds that `function(x, *rest)` takes among some, the first left out.

    It is applied to its own results in a compiled loop that writes where it reads, as a step is: a
    call that returned something new would measure how fast the system hands out pages.
    """
    import jax

    def some(x: Any, *rest: Any) -> Any:
        return jax.lax.fori_loop(0, _TIMES, lambda _, x: function(x, *rest), x)

    repeat = jax.jit(some, donate_argnums=0)
    x = jax.block_until_ready(repeat(jax.numpy.copy(x), *rest))  # the caller keeps its own
    times = []
    for _ in range(_REPEATS):
        began = time.perf_counter()
        x = jax.block_until_ready(repeat(x, *rest))
        times.append((time.perf_counter() - began) / _TIMES)
    return min(times)


def floors(rates: dict[str, float], batch_size: int, runs: int, precision: str) -> dict[str, float]:
    """The two floors of a step in seconds, and which is the higher."""
    size = 2 if precision == "bf16" else 4
    arithmetic = runs * step_flops(batch_size) / rates[f"{precision}_flops_a_second"]
    traffic = runs * step_bytes(batch_size, size) / rates["bytes_a_second"]
    return {"arithmetic_s": arithmetic, "traffic_s": traffic, "floor_s": max(arithmetic, traffic)}
