"""Handwritten digits that come with scikit-learn: the smallest real set, no download."""

import numpy as np

from betavae_jax.data.files import import_optional
from betavae_jax.data.resident import Part, make_splits
from betavae_jax.types import FactorSpace, Splits

_LEVELS = 16  # a pixel counts the dark ones of 4 x 4


def load_digits() -> Splits:
    """Loads 1,797 digits of 8 x 8 pixels, with the factor `label`.

    They are the test part of Alpaydin and Kaynak's set, by 13 writers; a pixel is one of
    17 grey levels, 0 to 1.

    Returns:
      The digits to learn from; no test split.

    Raises:
      InputError: scikit-learn is not installed.

    References:
      Alpaydin and Kaynak 1998, Optical Recognition of Handwritten Digits, UCI.
    """
    datasets = import_optional("sklearn.datasets", "sklearn", "for the data set digits")
    bunch = datasets.load_digits()
    images = (np.asarray(bunch.images) / _LEVELS).astype(np.float32)[..., None]
    factors = np.asarray(bunch.target).astype(np.int32)[:, None]
    space = FactorSpace(("label",), (10,), full_grid=False)
    return make_splits(Part("scikit-learn's digits", images, factors), None, space)
