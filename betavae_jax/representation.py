"""A trained representation, for use: encode, decode, edit."""

import dataclasses
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from betavae_jax.checks import InputError, check_at_least
from betavae_jax.coding import Coding, as_key, make_coding, map_rows
from betavae_jax.examples import check_codes, check_examples, plain
from betavae_jax.factor_codes import (
    FactorCodes,
    check_code,
    check_ends,
    find_latent,
    fit_factor_codes,
    matched_latents,
)
from betavae_jax.restore import read_run
from betavae_jax.runs.settings import Settings, from_config, make_likelihood
from betavae_jax.types import Model, Params, Posterior, Scale, Shape


@dataclasses.dataclass(frozen=True, eq=False)
class Representation:
    """One trained run as functions of arrays.

    Images are NumPy or JAX arrays, one or a batch: `[H, W, C]` or `[N, H, W, C]`, the `C` left
    out where it is 1; uint8, bool, or floats in [0, 1]. Vectors are `[F]` or `[N, F]`, in the
    units of the data set. Results are NumPy arrays, of one example where one was given. Inside a
    compiled program of your own use `model` and `params`.

    Attributes:
      config: The settings and the program that the run was made with.
      results: The run's row of `results.json`; None where it has not been evaluated.
      step: Training steps that it has done.
      image_shape: `(H, W, C)`, or `(F,)` of vectors.
      num_latents: D.
      params: The model's parameters, on the device.
      scale: How vectors were standardised, or None.
    """

    config: Mapping[str, Any] = dataclasses.field(repr=False)
    results: Mapping[str, Any] | None = dataclasses.field(repr=False)
    step: int
    image_shape: Shape
    num_latents: int
    params: Params = dataclasses.field(repr=False)
    scale: Scale | None = dataclasses.field(default=None, repr=False)

    @property
    def model(self) -> Model:
        """The model as pure functions of `params` and of examples as it sees them."""
        return self._coding.model

    def encode(self, images: Any) -> Posterior:
        """Encodes images to q(z|x).

        Args:
          images: One image or a batch.

        Returns:
          Means and log-variances, `[D]` or `[N, D]`.

        Raises:
          InputError: If their shape, type or range is not as above.
        """
        return self._apply(self._coding.encode, images)

    def decode(self, codes: Any) -> np.ndarray:
        """Decodes codes to the mean of p(x|z).

        Args:
          codes: `[D]` or `[N, D]`, finite numbers.

        Returns:
          Images in [0, 1], `[H, W, C]` or `[N, H, W, C]`, float32; or vectors in the units of the
          data set, float64 where they were standardised.

        Raises:
          InputError: If they are anything else.
        """
        z, single = check_codes(codes, self.num_latents)
        decoded = self._unscale(map_rows(functools.partial(self._coding.decode, self.params), z))
        return decoded[0] if single else decoded

    def reconstruct(self, images: Any) -> np.ndarray:
        """Decodes the mean codes of images: what of them the codes keep, shaped as `decode`'s."""
        return self.decode(self.encode(images).mean)

    def sample(self, key: Any, n: int) -> np.ndarray:
        """Decodes draws from the prior.

        Args:
          key: A whole number, or a key of `jax.random`.
          n: How many; the first of more are the same.

        Returns:
          `[n, H, W, C]`, the means of p(x|z).

        Raises:
          InputError: If the key or the number is anything else.
        """
        check_at_least("n", n := plain(n), 1, integer=True)
        key = as_key(key)
        function = lambda row: self._coding.sample(self.params, row, key)  # noqa: E731
        return self._unscale(map_rows(function, np.arange(n, dtype=np.int32)))

    def traverse(
        self,
        image: Any,
        latents: Sequence[int | str] | int | str | None = None,
        span: float | tuple[float, float] = 3.0,
        num_steps: int = 11,
    ) -> np.ndarray:
        """Decodes one image with one latent after another moved along its axis.

        Args:
          image: One image; the latents that do not move stay at its mean code.
          latents: One or more, by number, as "z3", or by a factor's name; None for all.
          span: Moves from -span to span, or between two values, in standard deviations of the
            prior.
          num_steps: T, values of each.

        Returns:
          `[L, T, H, W, C]`.

        Raises:
          InputError: If an argument is not as above.
        """
        check_at_least("num_steps", num_steps := plain(num_steps), 2, integer=True)
        low, high = check_ends(span)
        names = range(self.num_latents) if latents is None else latents
        if isinstance(names, str) or not isinstance(names, Iterable):
            names = [names]
        moved = [self._latent(name) for name in names]
        if not moved:
            raise InputError("expected at least one latent to traverse; got none")
        mean = self._one_code(image)
        z = np.tile(mean, (len(moved), num_steps, 1))
        z[np.arange(len(moved)), :, moved] = np.linspace(low, high, num_steps)
        decoded = self.decode(z.reshape(-1, self.num_latents))
        return decoded.reshape(len(moved), num_steps, *self.image_shape)

    def edit(self, images: Any, changes: Mapping[int | str, float]) -> np.ndarray:
        """Decodes images with some latents set to values: the same, but for what they carry.

        A factor of variation may stand for the latent that was found to follow it. Its value is
        the factor's number, counted from 0, fractions between two; the latent is set to its mean
        code over the evaluated examples of that value. The first such edit loads the data set.

        Args:
          images: One image or a batch.
          changes: Values by latent, a number or "z3", or by a factor's name.

        Returns:
          Shaped as `decode`'s.

        Raises:
          InputError: If a latent or a factor is unknown, no latent follows it, or its value is
            out of range; or if the images or the data are not as expected.
        """
        if not isinstance(changes, Mapping):
            raise InputError(
                f'expected changes by latent or factor, such as {{"z1": 1.5}}; got {changes!r}'
            )
        factors, targets = matched_latents(self.results), dict[int, float]()
        for name, value in changes.items():
            latent = self._latent(name)
            if latent in targets:
                raise InputError(f"expected changes of different latents; got z{latent} twice")
            is_factor = isinstance(name, str) and name in factors
            targets[latent] = (
                self._factor_codes[str(name)].at(value) if is_factor else check_code(name, value)
            )
        z = np.array(self.encode(images).mean)
        for latent, target in targets.items():
            z[..., latent] = target
        return self.decode(z)

    def elbo(
        self, images: Any, num_samples: int = 1, importance: int = 1, seed: int = 0
    ) -> np.ndarray:
        """Estimates a lower bound on log p(x) of each image, in nats.

        Vectors have the density of what the model sees, standardised. An image's noise follows
        from the seed and its pixels, so its value does not depend on the images beside it.

        Args:
          images: One image or a batch.
          num_samples: Estimates that are averaged.
          importance: K, samples in each: 1 for the ELBO; with more, the importance-weighted
            bound of Burda et al. (2016), which rises to log p(x) with K.
          seed: Of the samples, from 0 to 2³¹ - 1.

        Returns:
          `[]` or `[N]`.

        Raises:
          InputError: If an argument is not as above, or the likelihood is of whole batches
            (`gaussian_optimal`), which bounds no single example's density.
        """
        if make_likelihood(self._settings).of_a_batch:
            raise InputError(
                "expected a likelihood that gives one example alone a density, for its bound; got"
                f" {self._settings.likelihood}, whose sigma is a batch's"
            )
        check_at_least("num_samples", num_samples := plain(num_samples), 1, integer=True)
        check_at_least("importance", importance := plain(importance), 1, integer=True)
        key = as_key(seed)
        return self._apply(
            lambda params, x: self._coding.bound(params, x, key, num_samples, importance), images
        )

    def __getstate__(self) -> dict[str, Any]:
        """What a pickle holds: the fields; compiled functions are made again."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @functools.cached_property
    def _coding(self) -> Coding:
        return make_coding(self._settings, self.image_shape)

    @functools.cached_property
    def _settings(self) -> Settings:
        return from_config(self.config)

    @functools.cached_property
    def _factor_codes(self) -> Mapping[str, FactorCodes]:
        encode = functools.partial(self._coding.encode, self.params)
        return fit_factor_codes(
            self._settings, matched_latents(self.results), lambda x: map_rows(encode, x).mean
        )

    def _latent(self, name: Any) -> int:
        return find_latent(name, self.num_latents, matched_latents(self.results))

    def _one_code(self, image: Any) -> np.ndarray:
        mean = self.encode(image).mean
        if np.ndim(mean) != 1:
            raise InputError(f"expected one example; got a batch of {len(mean)}")
        return np.asarray(mean)

    def _unscale(self, x: np.ndarray) -> np.ndarray:
        return x if self.scale is None else self.scale.restore(x)

    def _apply(self, function: Callable[[Params, Any], Any], images: Any) -> Any:
        rows = check_examples(images, self.image_shape, self.scale)

        def apply(batch: np.ndarray) -> Any:
            return function(self.params, rows.prepare(batch, self.scale))

        result = map_rows(apply, rows.values)
        return jax.tree.map(lambda leaf: leaf[0], result) if rows.single else result


def load(workdir: str | os.PathLike[str], run: int = 0) -> Representation:
    """Loads one run of a run directory from its latest whole checkpoint.

    Neither the data set nor the training program is built, and nothing is written: the
    directory may be in training.

    Args:
      workdir: A run directory, finished or not.
      run: The run's number, from 0.

    Returns:
      The representation.

    Raises:
      InputError: If it is no run directory, is of a newer format, has no checkpoint yet or no
        such run.
      CheckpointError: If no checkpoint can be read.
    """
    read = read_run(workdir, run)
    return Representation(
        config=read.config,
        results=read.results,
        step=read.step,
        image_shape=read.x_shape,
        num_latents=read.settings.num_latents,
        params=jax.device_put(read.params),
        scale=_scale_of(read.config),
    )


def _scale_of(config: Mapping[str, Any]) -> Scale | None:
    """How vectors were standardised; None for images, and for sets that are not."""
    standardized = config["program"].get("standardized")
    if standardized is None:
        return None
    return Scale(*(np.asarray(standardized[name]) for name in Scale._fields))
