"""The scikit-learn face: a β-VAE that is fitted to arrays and transforms them to codes."""

import warnings
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from betavae_jax.checks import LARGEST_COUNT, InputError
from betavae_jax.data.vectors import check_vectors
from betavae_jax.estimator_settings import check_same, run_settings
from betavae_jax.examples import as_array, as_seen, scale_of, shape_of
from betavae_jax.in_memory import train_arrays
from betavae_jax.representation import Representation
from betavae_jax.runs.settings import AUTO, Settings, to_config
from betavae_jax.training import Carry
from betavae_jax.types import Scale, Shape

try:
    from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_random_state
    from sklearn.utils.validation import check_array, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        f"expected scikit-learn for betavae_jax.BetaVAE; got {error}"
        " (pip install 'betavae_jax[sklearn]' installs it)"
    ) from error

_SAMPLES = 8  # of z for each example that is scored
_SCORE_SEED = 0


class BetaVAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """A variational autoencoder as a scikit-learn transformer: images or vectors to codes.

    Images are `[N, H, W]` or `[N, H, W, C]`: uint8, bool, or floats in [0, 1]; vectors are
    `[N, F]`, any finite numbers. Vectors, and images with negative values, are standardised
    (each feature, or channel) and take a Gaussian likelihood by themselves; `inverse_transform`
    gives their own units back. Bytes that never exceed 1 in the first call are binary. Training
    draws every example equally often, so there are no sample weights.

    Args:
      beta: Weight of the rate; None for the objective's own, which is 4 for `beta_vae`.
      num_latents: D.
      objective: A name in `OBJECTIVES`; those that pair examples by factors cannot be used here.
      coefficients: Further coefficients of the objective by name, such as `{"gamma": 35}`.
      schedules: Of coefficients, by name, such as `{"beta": "linear:0:1000"}`.
      objective_settings: Settings of the objective by name.
      num_steps: Steps of `fit`.
      batch_size: Examples a step.
      learning_rate: Of Adam, or of the objective's own optimiser.
      clip_norm: The largest norm of a gradient; None for no limit.
      network: A name in `NETWORKS`, or "auto": `conv` for images, for vectors `mlp` with two
        layers of 256.
      network_settings: Settings of the network by name, such as `{"widths": "64,64"}`.
      likelihood: A name in `LIKELIHOODS`, or "auto": Bernoulli for images in [0, 1], Gaussian
        otherwise.
      likelihood_settings: Settings of the likelihood by name, such as `{"sigma": 0.5}`.
      precision: What the networks compute in, "float32" or "bf16".
      random_state: A whole number for the same result each time; None, or a RandomState.
      verbose: Whether to draw a progress bar.

    Attributes:
      settings_: The settings of the run, resolved.
      x_shape_: The shape of an example, `(H, W, C)` or `(F,)`.
      scale_: How examples are standardised, or None.
      n_steps_: Training steps done.
      n_features_in_: Numbers of an example.
      representation_: The fitted model, to encode, traverse and edit with.

    References:
      Higgins et al. 2017, β-VAE: Learning Basic Visual Concepts with a Constrained Variational
      Framework.
    """

    settings_: Settings
    x_shape_: Shape
    scale_: Scale | None
    n_steps_: int
    n_features_in_: int
    _given_shape: Shape
    _binary: bool
    _carry: Carry

    def __init__(
        self,
        beta: float | None = None,
        num_latents: int = 10,
        objective: str = "beta_vae",
        *,
        coefficients: Mapping[str, float] | None = None,
        schedules: Mapping[str, str] | None = None,
        objective_settings: Mapping[str, Any] | None = None,
        num_steps: int = 2_000,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        clip_norm: float | None = None,
        network: str = AUTO,
        network_settings: Mapping[str, Any] | None = None,
        likelihood: str = AUTO,
        likelihood_settings: Mapping[str, Any] | None = None,
        precision: str = "float32",
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.beta = beta
        self.num_latents = num_latents
        self.objective = objective
        self.coefficients = coefficients
        self.schedules = schedules
        self.objective_settings = objective_settings
        self.num_steps = num_steps
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.clip_norm = clip_norm
        self.network = network
        self.network_settings = network_settings
        self.likelihood = likelihood
        self.likelihood_settings = likelihood_settings
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> "BetaVAE":
        """Trains anew for `num_steps` steps.

        Args:
          X: Images or vectors.
          y: Ignored.
          **fit_params: None are taken; `sample_weight` is refused.

        Returns:
          Itself.

        Raises:
          InputError: If the examples or a parameter are not as above.
        """
        del y
        return self._train(X, fit_params, anew=True)

    def partial_fit(self, X: Any, y: Any = None, **fit_params: Any) -> "BetaVAE":
        """Goes on training for as many steps as one pass over `X` takes.

        The first call decides how examples are standardised, and the network; coefficients,
        schedules, learning rate and batch size may change between calls.

        Args:
          X: Images or vectors, of the shape of the first.
          y: Ignored.
          **fit_params: None are taken; `sample_weight` is refused.

        Returns:
          Itself.

        Raises:
          InputError: If the examples or a parameter are not as above.
        """
        del y
        return self._train(X, fit_params, anew=not hasattr(self, "_carry"), one_pass=True)

    def transform(self, X: Any) -> np.ndarray:
        """Encodes examples to their mean codes `[N, D]`, float32."""
        return np.asarray(self.representation_.encode(self._check_later(X)).mean)

    def inverse_transform(self, X: Any) -> np.ndarray:
        """Decodes codes `[N, D]` to examples, shaped as those of `fit`.

        Returns:
          float32; float64 where examples were standardised, in their own units.
        """
        check_is_fitted(self, "_carry")
        decoded = self.representation_.decode(check_array(_known("codes", X)))
        return decoded.reshape(len(decoded), *self._given_shape)

    def score_samples(self, X: Any) -> np.ndarray:
        """The ELBO of each example `[N]`, nats; of eight samples, the same at every call.

        Raises:
          InputError: If the examples are not as those of `fit`, or the likelihood is
            `gaussian_optimal`, which bounds no single example's density.
        """
        x = self._check_later(X)
        return self.representation_.elbo(x, num_samples=_SAMPLES, seed=_SCORE_SEED)

    def score(self, X: Any, y: Any = None) -> float:
        """The mean ELBO of the examples, nats; `y` is ignored."""
        del y
        return float(np.mean(self.score_samples(X), dtype=np.float64))

    @property
    def representation_(self) -> Representation:
        """The fitted model, to encode, traverse and edit with."""
        check_is_fitted(self, "_carry")
        params = jax.tree.map(lambda leaf: leaf[0], self._carry.state.params)
        return Representation(
            config=to_config(self.settings_, {"x_shape": list(self.x_shape_)}),
            results=None,
            step=self.n_steps_,
            image_shape=self.x_shape_,
            num_latents=self.settings_.num_latents,
            params=jax.device_put(params),
            scale=self.scale_,
        )

    @property
    def _n_features_out(self) -> int:
        num_latents: int = self.settings_.num_latents
        return num_latents

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_carry")

    def _train(
        self, X: Any, fit_params: Mapping[str, Any], *, anew: bool, one_pass: bool = False
    ) -> "BetaVAE":
        if fit_params:
            raise InputError(
                "expected no sample weights or other arguments of fit: every example is drawn"
                f" equally often, so repeat those that count more; got {', '.join(fit_params)}"
            )
        x = self._check(X, reset=anew)
        if anew:
            scale, binary = scale_of(x, self.likelihood), x.dtype == np.uint8 and x.max() <= 1
            seed = int(check_random_state(self.random_state).randint(LARGEST_COUNT))
        else:
            scale, binary, seed = self.scale_, self._binary, self.settings_.seed[0]
        settings = run_settings(
            self.get_params(), shape_of(x), seed, standardized=scale is not None
        )
        if not anew:
            check_same(settings, self.settings_)
        seen = as_seen(x, scale, binary)
        num_steps = -(-len(x) // settings.batch_size) if one_pass else settings.num_steps
        start = None if anew else (self.n_steps_, self._carry)
        step, carry = train_arrays(
            settings, seen, num_steps, start, show_progress=bool(self.verbose)
        )
        self.settings_, self.x_shape_ = settings, shape_of(x)
        self.scale_, self.n_steps_ = scale, step
        self._given_shape, self._binary, self._carry = x.shape[1:], binary, carry
        if (failed_at := int(carry.state.failed_at[0])) >= 0:
            warnings.warn(
                f"the loss or its gradient was not finite at step {failed_at}; the parameters are"
                " as before it",
                ConvergenceWarning,
                stacklevel=3,
            )
        return self

    def _check(self, X: Any, *, reset: bool) -> np.ndarray:
        """Checks type and shape of examples, as scikit-learn does: `[N, F]`, `[N, H, W(, C)]`."""
        if not reset:
            check_is_fitted(self)
        X = _known("X", X)
        is_images = (X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim) in (3, 4)
        if is_images:
            try:
                x = check_array(X, allow_nd=True, estimator=self, input_name="X")
            except ValueError as error:  # its first line says what is wrong, the rest advises
                first = str(error).partition("\n")[0]
                raise InputError(
                    f"expected images of finite numbers; got others: {first}"
                ) from None
            if reset:
                self.n_features_in_ = int(np.prod(x.shape[1:]))
                self.__dict__.pop("feature_names_in_", None)
        else:
            x = validate_data(self, X, reset=reset)
        if not reset and shape_of(x) != self.x_shape_:
            raise InputError(
                f"expected examples of the shape that was fitted, {list(self.x_shape_)};"
                f" got {list(x.shape[1:])}"
            )
        if not is_images:
            check_vectors("X", x)
        return x

    def _check_later(self, X: Any) -> np.ndarray:
        """Checks examples after `fit`: `[N, *x_shape]` as its representation takes them."""
        x = self._check(X, reset=False)
        if self.scale_ is not None:
            return x.reshape(len(x), *self.x_shape_)
        seen = as_seen(x, None, self._binary)
        return seen / np.float32(255) if seen.dtype == np.uint8 else seen


def _known(what: str, X: Any) -> Any:
    """What scikit-learn knows: bfloat16 as float32, and no masks, under which it would read."""
    is_bfloat16 = getattr(getattr(X, "dtype", None), "name", "") == "bfloat16"
    return as_array(what, X) if is_bfloat16 or isinstance(X, np.ma.MaskedArray) else X
