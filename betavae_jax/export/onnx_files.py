"""ONNX files: an encoder and a decoder as graphs of ordinary layers, for any batch size."""

import pathlib

import jax
import numpy as np

from betavae_jax.chain import decoder_chain, encoder_chain
from betavae_jax.checks import InputError
from betavae_jax.data.files import import_optional, reading
from betavae_jax.export.description import settings_of
from betavae_jax.export.functions import Functions
from betavae_jax.export.graph import decoder_model, encoder_model
from betavae_jax.representation import Representation

ENCODER, DECODER = "encoder.onnx", "decoder.onnx"


def write_onnx(representation: Representation, folder: pathlib.Path) -> None:
    """Writes `encoder.onnx` and `decoder.onnx`.

    Raises:
      InputError: If the networks compute in bfloat16, are no chain of layers that ONNX has, or
        the package onnx is not installed.
    """
    onnx = import_optional("onnx", "export", "to write ONNX")
    settings, x_shape = settings_of(representation), representation.image_shape
    model, params = representation.model, jax.device_get(representation.params)
    if settings.precision != "float32":
        raise InputError(
            f"expected a run of precision float32 for ONNX, whose graph computes in it;"
            f" got {settings.precision}"
        )
    encoder = encoder_chain(model, params, x_shape)
    decoder = decoder_chain(model, params, settings.num_latents)
    graphs = {
        ENCODER: encoder_model(encoder, x_shape, settings.num_latents),
        DECODER: decoder_model(decoder, x_shape, settings.num_latents, settings.likelihood),
    }
    for name, graph in graphs.items():
        onnx.save_model(graph, folder / name)


def load_onnx(folder: pathlib.Path) -> Functions:
    """Loads what `write_onnx` has written, run by onnxruntime on the CPU.

    Raises:
      InputError: If a file is missing or damaged, or onnxruntime is not installed.
    """
    runtime = import_optional("onnxruntime", "export", "to run ONNX")
    sessions = {}
    for name in (ENCODER, DECODER):
        with reading(folder / name):
            content = (folder / name).read_bytes()
            sessions[name] = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])

    def encode(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, log_variance = sessions[ENCODER].run(["mean", "log_variance"], {"x": x})
        return mean, log_variance

    def decode(z: np.ndarray) -> np.ndarray:
        (x,) = sessions[DECODER].run(["x"], {"z": z})
        return np.asarray(x)

    return Functions(encode, decode)
