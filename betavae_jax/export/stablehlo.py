"""StableHLO by `jax.export`: programs with their weights inside, for a CPU or an NVIDIA GPU."""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp

from betavae_jax.checks import InputError
from betavae_jax.data.files import import_optional, reading
from betavae_jax.export.description import settings_of
from betavae_jax.export.functions import Functions, on_host
from betavae_jax.representation import Representation
from betavae_jax.restore import model_of
from betavae_jax.types import Model

ENCODER, DECODER = "encoder.stablehlo", "decoder.stablehlo"
_PLATFORMS = ("cpu", "cuda")


def write_stablehlo(representation: Representation, folder: pathlib.Path) -> None:
    """Writes `encoder.stablehlo` and `decoder.stablehlo`; the batch's size is left open.

    Raises:
      InputError: If the package flatbuffers is not installed, or the network is one for batches
        of one size.
    """
    import_optional("flatbuffers", "export", "to write StableHLO")
    model, params = _portable_model(representation), representation.params

    def encode(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        mean, log_variance = model.encode(params, x)
        return mean, log_variance

    def decode(z: jax.Array) -> jax.Array:
        return model.mean(model.decode(params, z))

    (batch,) = jax.export.symbolic_shape("batch")
    shapes = {ENCODER: representation.image_shape, DECODER: (representation.num_latents,)}
    for (name, shape), function in zip(shapes.items(), (encode, decode), strict=True):
        argument = jax.ShapeDtypeStruct((batch, *shape), jnp.float32)
        try:
            exported = jax.export.export(jax.jit(function), platforms=_PLATFORMS)(argument)
        except (TypeError, jax.errors.InconclusiveDimensionOperation) as error:
            raise InputError(
                "expected a network for batches of any size, which StableHLO leaves open (of x it"
                f" reads x.shape[0], not len(x)); got {error}"
            ) from error
        (folder / name).write_bytes(exported.serialize())


def load_stablehlo(folder: pathlib.Path) -> Functions:
    """Loads what `write_stablehlo` has written.

    Raises:
      InputError: If a file is missing or damaged, or flatbuffers is not installed.
    """
    import_optional("flatbuffers", "export", "to read StableHLO")
    return on_host(_load(folder / ENCODER), _load(folder / DECODER))


def _portable_model(representation: Representation) -> Model:
    """The model with convolutions that every platform has: all forms but the one for GPUs."""
    settings = settings_of(representation)
    if settings.network_settings.get("convolution") == "kernels":
        portable = {**settings.network_settings, "convolution": "matmul"}
        settings = settings._replace(network_settings=portable)
    return model_of(settings, representation.image_shape)


def _load(path: pathlib.Path) -> Any:
    with reading(path):
        return jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
