"""The flags of scoring that drivers share."""

from absl import flags

METRICS = flags.DEFINE_list(
    "metrics", None, "Names; all; or fast, without exact DCI. A study has a choice of its own."
)
NUM_TRAIN = flags.DEFINE_integer("num_train", 10_000, "Rows to fit to.", lower_bound=1)
NUM_TEST = flags.DEFINE_integer("num_test", 5_000, "Rows to test on.", lower_bound=1)


def asked_metrics() -> list[str]:
    """The names that the command line gives, or the fast ones."""
    return ["fast"] if METRICS.value is None else METRICS.value
