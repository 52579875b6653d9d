"""Plain PyTorch VAEs, eager, as one would write them: of `conv_locatello`'s and `conv`'s shapes."""

from typing import Any

import numpy as np
import torch
from torch import nn

_WIDTHS = (32, 32, 64, 64)


def make_networks(
    num_latents: int,
    channels: tuple[int, ...] = _WIDTHS,
    fully_connected: tuple[int, ...] = (256,),
) -> tuple[nn.Module, nn.Module]:
    """Makes encoder and decoder with 4×4 stride-2 kernels for sides of 4 · 2ⁿ, one channel.

    Args:
      num_latents: D.
      channels: Output channels of the n convolutions; the decoder mirrors them.
      fully_connected: Widths of the layers between the last convolution and the code.
    """
    encoder: list[nn.Module] = []
    inputs = 1
    for width in channels:
        encoder += [nn.Conv2d(inputs, width, 4, 2, 1), nn.ReLU()]
        inputs = width
    flat = 16 * channels[-1]
    encoder += [nn.Flatten()]
    decoder: list[nn.Module] = []
    inputs, outputs = flat, num_latents
    for width in fully_connected:
        encoder += [nn.Linear(inputs, width), nn.ReLU()]
        decoder += [nn.Linear(outputs, width), nn.ReLU()]
        inputs = outputs = width
    encoder += [nn.Linear(inputs, 2 * num_latents)]
    decoder += [nn.Linear(outputs, flat), nn.ReLU(), nn.Unflatten(1, (channels[-1], 4, 4))]
    for before, after in zip(channels[::-1], (*channels[-2::-1], 1), strict=True):
        decoder += [nn.ConvTranspose2d(before, after, 4, 2, 1), nn.ReLU()]
    return nn.Sequential(*encoder), nn.Sequential(*decoder[:-1])


def make_step(
    batch_size: int,
    num_latents: int,
    *,
    channels_last: bool = False,
    compiled: bool = False,
    graph: bool = False,
) -> Any:
    """Makes a function that takes `count` Adam steps of a β-VAE on images held in memory.

    Args:
      batch_size: Examples in a batch.
      num_latents: D.
      channels_last: The layout of images and kernels.
      compiled: Whether the loss goes through `torch.compile`: on a GPU as CUDA graphs.
      graph: On a GPU, whether the whole step, data and optimiser in it, is one CUDA graph.
    """
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder, decoder = (network.to(device) for network in make_networks(num_latents))
    images = torch.rand(1024, 1, 64, 64, device=device)
    if channels_last:
        layout = torch.channels_last
        encoder, decoder = encoder.to(memory_format=layout), decoder.to(memory_format=layout)
        images = images.to(memory_format=layout)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    on_gpu = device.type == "cuda"
    further = {"fused": True} if compiled and on_gpu else {"capturable": True} if graph else {}
    optimizer = torch.optim.Adam(parameters, lr=5e-4, **further)

    def loss_of(x: torch.Tensor) -> torch.Tensor:
        mean, log_variance = encoder(x).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        bce = nn.functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (bce + 4.0 * kl) / batch_size

    loss = loss_of
    if compiled:
        loss = torch.compile(loss_of, mode="reduce-overhead" if on_gpu else "default")

    def step() -> None:
        x = images[torch.randint(len(images), (batch_size,), device=device)]
        optimizer.zero_grad(set_to_none=True)
        loss(x).backward()
        optimizer.step()

    take = _capture(step) if graph else step

    def advance(count: int) -> None:
        for _ in range(count):
            take()
        if on_gpu:
            torch.cuda.synchronize()

    return advance


def _capture(step: Any) -> Any:
    """Records a step as one CUDA graph; calls of the result replay it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # as the documentation asks: warm up beside the main stream
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        step()
    return recorded.replay


def train_and_evaluate(
    train: np.ndarray,
    test: np.ndarray,
    *,
    seed: int,
    num_steps: int,
    batch_size: int,
    num_latents: int,
    learning_rate: float,
) -> float:
    """Trains a VAE on 28×28 grey images, padded to 32, and evaluates it on others.

    Args:
      train: `[N, 28, 28]` uint8.
      test: `[M, 28, 28]` uint8.
      seed: Of the parameters, the batches and the samples.
      num_steps: Adam steps.
      batch_size: Examples in a batch, drawn with replacement.
      num_latents: D.
      learning_rate: Of Adam.

    Returns:
      The mean ELBO of the test images, one sample each, in nats.
    """
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = make_networks(num_latents, (32, 32, 32), (256, 256))
    encoder, decoder = (network.to(device) for network in networks)
    images, held_out = (torch.from_numpy(a).to(device) for a in (train, test))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=learning_rate)

    def negative_elbo(pixels: torch.Tensor) -> torch.Tensor:
        x = pixels[:, None].float() / 255
        mean, log_variance = encoder(nn.functional.pad(x, (2, 2, 2, 2))).chunk(2, dim=1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        logits = decoder(z)[:, :, 2:-2, 2:-2]  # the likelihood counts real pixels only
        bce = nn.functional.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (bce + kl) / len(x)

    for _ in range(num_steps):
        batch = images[torch.randint(len(images), (batch_size,), device=device)]
        optimizer.zero_grad(set_to_none=True)
        negative_elbo(batch).backward()
        optimizer.step()
    with torch.no_grad():
        parts = [float(negative_elbo(part)) * len(part) for part in held_out.split(1_000)]
    return -sum(parts) / len(held_out)
