"""A plain PyTorch VAE of the shape of `conv_locatello`, eager, as one would write it."""

from typing import Any

import torch
from torch import nn

_WIDTHS = (32, 32, 64, 64)


def make_networks(num_latents: int) -> tuple[nn.Module, nn.Module]:
    """Makes encoder and decoder for 64×64×1: 4×4 stride-2 kernels throughout, FC 256."""
    encoder: list[nn.Module] = []
    channels = 1
    for width in _WIDTHS:
        encoder += [nn.Conv2d(channels, width, 4, 2, 1), nn.ReLU()]
        channels = width
    encoder += [nn.Flatten(), nn.Linear(1024, 256), nn.ReLU(), nn.Linear(256, 2 * num_latents)]
    decoder: list[nn.Module] = [nn.Linear(num_latents, 256), nn.ReLU(), nn.Linear(256, 1024)]
    decoder += [nn.ReLU(), nn.Unflatten(1, (64, 4, 4))]
    for width in (64, 32, 32):
        decoder += [nn.ConvTranspose2d(channels, width, 4, 2, 1), nn.ReLU()]
        channels = width
    decoder += [nn.ConvTranspose2d(channels, 1, 4, 2, 1)]
    return nn.Sequential(*encoder), nn.Sequential(*decoder)


def make_step(batch_size: int, num_latents: int, *, channels_last: bool) -> Any:
    """Makes a function that takes `count` Adam steps of a β-VAE on images held in memory."""
    torch.manual_seed(0)
    encoder, decoder = make_networks(num_latents)
    images = torch.rand(1024, 1, 64, 64)
    if channels_last:
        layout = torch.channels_last
        encoder, decoder = encoder.to(memory_format=layout), decoder.to(memory_format=layout)
        images = images.to(memory_format=layout)
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=5e-4)

    def advance(count: int) -> None:
        for _ in range(count):
            x = images[torch.randint(len(images), (batch_size,))]
            mean, log_variance = encoder(x).chunk(2, dim=1)
            z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
            bce = nn.functional.binary_cross_entropy_with_logits(decoder(z), x, reduction="sum")
            kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
            optimizer.zero_grad(set_to_none=True)
            ((bce + 4.0 * kl) / batch_size).backward()
            optimizer.step()

    return advance
