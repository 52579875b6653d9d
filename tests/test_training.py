"""The compiled program: its contract, its bits, its failures."""

import gc
import re
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from betavae_jax import population, training
from betavae_jax.fit import carry_template, program_of

COLLECTIVES = re.compile(
    r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"
)


# Where the form of the layers does not matter: compiled in half the time.
DENSE = {"network": "mlp", "network_settings": {"widths": "8"}}


class Session:
    """A program with its placed arguments."""

    def __init__(self, experiment, num_devices=1, vectorized_runs=1):
        self.runs = len(experiment.runs.seed)
        devices = population.choose_devices(self.runs, jax.devices()[:num_devices])
        self.program = training.make_program(
            experiment.model,
            experiment.objective,
            experiment.splits.train,
            batch_size=experiment.settings.batch_size,
            num_latents=experiment.settings.num_latents,
            devices=devices,
            vectorized_runs=vectorized_runs,
        )
        self.arrays = population.replicate(experiment.splits.train.arrays, devices)
        self.settings = population.place_runs(experiment.runs, devices)
        self.carry = self.program.init(self.settings, self.arrays)

    def count(self, steps):
        return population.replicate(np.int32(steps), self.program.devices)

    def advance(self, *counts):
        for steps in counts:
            self.carry = self.program.advance(
                self.carry, self.settings, self.arrays, self.count(steps)
            )
        return self

    def fetch(self):
        return population.take_runs(self.carry, self.runs)


def assert_equal_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def run_of(carry, run):
    return jax.tree.map(lambda leaf: leaf[run], carry)


@pytest.fixture(scope="module")
def population_of_six(make_experiment):
    return Session(make_experiment(coefficients={"beta": [1.0, 4.0, 16.0]}, seed=[0, 1]))


@pytest.fixture(scope="module")
def six_after_twenty(population_of_six):
    return population_of_six.advance(20).fetch()


def test_a_run_alone_and_in_a_population_has_equal_bits(make_experiment, six_after_twenty):
    alone = Session(make_experiment(coefficients={"beta": [4.0]}, seed=[1])).advance(20).fetch()
    assert_equal_bits(run_of(alone, 0), run_of(six_after_twenty, 3))


def test_two_devices_give_equal_bits(make_experiment, six_after_twenty):
    experiment = make_experiment(coefficients={"beta": [1.0, 4.0, 16.0]}, seed=[0, 1])
    two = Session(experiment, num_devices=2).advance(20)
    assert len(two.program.devices) == 2
    assert_equal_bits(two.fetch(), six_after_twenty)


def test_padding_runs_change_nothing(make_experiment, six_after_twenty):
    experiment = make_experiment(coefficients={"beta": [1.0, 4.0, 16.0]}, seed=[0])
    three = Session(experiment, num_devices=2).advance(20)
    assert jax.tree.leaves(three.carry)[0].shape[:2] == (2, 2)
    for run in range(3):
        assert_equal_bits(run_of(three.fetch(), run), run_of(six_after_twenty, 2 * run))


def test_steps_may_be_cut_anywhere(make_experiment, six_after_twenty):
    experiment = make_experiment(coefficients={"beta": [1.0, 4.0, 16.0]}, seed=[0, 1])
    cut = Session(experiment).advance(1, 0, 7, 12)
    assert_equal_bits(cut.fetch(), six_after_twenty)


def test_one_compilation_serves_every_beta_seed_rate_and_length(
    make_experiment, counted_compilations
):
    first = Session(make_experiment(coefficients={"beta": [1.0]}))
    first.advance(3)
    results = [first.fetch()]
    with counted_compilations() as compilations:
        for beta, seed, rate in [(4.0, 0, 5e-4), (16.0, 0, 5e-4), (1.0, 5, 5e-4), (1.0, 0, 1e-2)]:
            other = make_experiment(
                coefficients={"beta": [beta]}, seed=[seed], learning_rate=[rate]
            )
            first.settings = population.place_runs(other.runs, first.program.devices)
            first.carry = first.program.init(first.settings, first.arrays)
            results.append(first.advance(1, 2).fetch())
    assert compilations == []
    leaves = [jax.tree.leaves(r.state.params)[0] for r in results]
    for i in range(len(leaves)):
        for j in range(i):
            assert not np.array_equal(leaves[i], leaves[j])


def test_what_is_compiled_goes_with_the_program(make_experiment):
    """`jax.pmap` keeps it for ever: after some 190 programs a process has no mapping left."""
    experiment = make_experiment(**DENSE)
    program = program_of(experiment, jax.devices()[:1])
    carry_template(program, experiment.runs, experiment.splits.train.arrays)
    gone = weakref.ref(program.init.__wrapped__)
    del program
    gc.collect()
    assert gone() is None


def test_the_compilation_counter_counts(counted_compilations):
    with counted_compilations() as compilations:
        jax.jit(lambda x: x * 3.25 + 1)(jnp.ones(7)).block_until_ready()
    assert len(compilations) >= 1


def test_compiled_text_is_free_of_collectives_and_of_data(make_experiment):
    experiment = make_experiment(coefficients={"beta": [1.0, 4.0, 16.0]}, seed=[0])
    session = Session(experiment, num_devices=2)
    lowered = session.program.advance.lower(
        session.carry, session.settings, session.arrays, session.count(1)
    )
    text = lowered.compile().as_text()
    assert not COLLECTIVES.search(text)
    assert " convolution(" not in text
    assert COLLECTIVES.search("%x = f32[] all-reduce(%y)")


def test_nothing_moves_between_host_and_device_inside_a_chunk(population_of_six):
    steps = population_of_six.count(2)
    with jax.transfer_guard("disallow_explicit"):
        carry = population_of_six.program.advance(
            population_of_six.carry, population_of_six.settings, population_of_six.arrays, steps
        )
        jax.block_until_ready(carry)
    population_of_six.carry = carry


def test_the_carry_is_donated(make_experiment):
    session = Session(make_experiment())
    before = jax.tree.leaves(session.carry)
    session.advance(1)
    assert all(leaf.is_deleted() for leaf in before)


def test_a_run_that_blows_up_freezes_alone(make_experiment):
    experiment = make_experiment(learning_rate=[5e-4, 1e30], seed=[0, 1], **DENSE)
    both = Session(experiment).advance(10).fetch()
    calm = make_experiment(learning_rate=[5e-4, 1e-3], seed=[0, 1], **DENSE)
    calm = Session(calm).advance(10).fetch()
    assert_equal_bits(run_of(both, 0), run_of(calm, 0))
    assert_equal_bits(run_of(both, 1), run_of(calm, 1))
    for run in (2, 3):
        state = run_of(both.state, run)
        assert state.failed_at == 1
        assert state.step == 1
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state))
        assert not np.isfinite(both.sums.loss[run])
        assert both.num_summed[run] == 10
    # The state stays the one before the failure however long the run is continued.
    session = Session(experiment).advance(1)
    one_step = session.fetch()
    assert_equal_bits(run_of(one_step.state.params, 2), run_of(both.state.params, 2))
    assert_equal_bits(run_of(one_step.state.opt_state, 2), run_of(both.state.opt_state, 2))


@pytest.mark.parametrize("what", ["gradient", "critic", "neither"])
def test_a_finite_loss_does_not_hide_what_is_not_finite(make_experiment, what):
    experiment = make_experiment(**DENSE)
    objective = experiment.objective

    def loss(params, *arguments):
        value, rest = objective.loss(params, *arguments)
        nothing = 0.0 * sum(jnp.sum(leaf) for leaf in jax.tree.leaves(params))
        return value + jnp.sqrt(nothing), rest  # the slope of a root at 0, times 0

    def critic_loss(*arguments):
        value, extras = objective.critic_loss(*arguments)
        return value + jnp.inf, extras

    changes = {"gradient": {"loss": loss}, "critic": {"critic_loss": critic_loss}, "neither": {}}
    changed, data = objective._replace(**changes[what]), experiment.splits.train
    settings = run_of(experiment.runs, 0)
    state = jax.jit(training.make_init(experiment.model, changed, (16, 16, 1), 3))(settings)
    step = training.make_step(experiment.model, changed, data, 8)
    after, terms = jax.jit(step)(state, settings, data.arrays)
    assert np.isfinite(terms.loss)
    if what == "neither":
        assert (after.failed_at, after.step) == (-1, 1)
    else:
        assert_equal_bits(after, state._replace(failed_at=np.int32(0)))


def test_failing_terms_survive_a_report(make_experiment):
    session = Session(make_experiment(learning_rate=[1e30], **DENSE)).advance(5)
    session.carry = session.program.report(session.carry)
    assert session.fetch().num_summed[0] == 0
    session.advance(1)
    assert not np.isfinite(session.fetch().sums.loss[0])


def test_vae_is_beta_vae_at_one(make_experiment):
    beta = Session(make_experiment(coefficients={"beta": [1.0]}, **DENSE)).advance(10).fetch()
    plain = Session(make_experiment(objective="vae", **DENSE)).advance(10).fetch()

    def close(a, b):
        assert np.linalg.norm(a - b) <= 1e-6 * np.linalg.norm(b)

    jax.tree.map(close, beta.state.params, plain.state.params)


def test_vectorised_runs_agree_to_1e_5(make_experiment):
    experiment = make_experiment(coefficients={"beta": [1.0, 4.0, 16.0]}, seed=[0, 1])
    loop = Session(experiment).advance(5).fetch()
    together = Session(experiment, vectorized_runs=6).advance(5).fetch()

    def close(a, b):
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)

    jax.tree.map(close, together.state.params, loop.state.params)


def test_sums_are_the_sum_of_the_steps(make_experiment):
    experiment = make_experiment(**DENSE)
    session = Session(experiment)
    step = jax.jit(
        training.make_step(
            experiment.model,
            experiment.objective,
            experiment.splits.train,
            experiment.settings.batch_size,
        )
    )
    state = run_of(session.fetch().state, 0)
    settings = run_of(experiment.runs, 0)
    losses = []
    for _ in range(4):
        state, terms = step(state, settings, experiment.splits.train.arrays)
        losses.append(float(terms.loss))
        np.testing.assert_allclose(terms.rate, np.sum(terms.kl_per_latent), rtol=1e-6)
    sums = session.advance(4).fetch()
    np.testing.assert_allclose(sums.sums.loss[0], np.sum(losses), rtol=1e-5)
    assert len(set(losses)) == 4
    assert sums.num_summed[0] == 4


def test_training_lowers_the_loss(make_experiment):
    session = Session(make_experiment(coefficients={"beta": [1.0]}, learning_rate=[2e-3]))
    first = session.advance(10).fetch().sums.loss[0] / 10
    session.advance(190)
    session.carry = session.program.report(session.carry)
    last = session.advance(10).fetch().sums.loss[0] / 10
    assert last < 0.6 * first


def test_the_state_counts_its_steps(six_after_twenty):
    np.testing.assert_array_equal(six_after_twenty.state.step, np.full(6, 20))
    np.testing.assert_array_equal(six_after_twenty.state.failed_at, np.full(6, -1))
    assert six_after_twenty.state.critic == ()


def test_data_shape(make_experiment):
    assert training.data_shape(make_experiment().splits.train) == (16, 16, 1)


def test_program_of_uses_no_more_devices_than_runs(make_experiment):
    assert len(program_of(make_experiment()).devices) == 1
    assert len(program_of(make_experiment(seed=[0, 1, 2])).devices) == 2


def test_runs_of_a_device_advance_together_but_on_a_cpu():
    assert population.default_vectorized_runs(5, tuple(jax.devices())) == 1
    accelerators = (types.SimpleNamespace(platform="gpu"),) * 2
    assert population.default_vectorized_runs(5, accelerators) == 3  # the fuller device's


def test_a_schedule_that_has_risen_is_the_coefficient(make_experiment):
    settings = {"coefficients": {"beta": [8.0]}}
    plain = Session(make_experiment(**settings)).advance(5).fetch().sums
    # From β = 8 to β = 8 by another program, and from β = 0.
    level = Session(make_experiment(**settings, schedules={"beta": "linear:8:5"}))
    rising = Session(make_experiment(**settings, schedules={"beta": "linear:0:5"}))
    np.testing.assert_allclose(level.advance(5).fetch().sums.loss, plain.loss, rtol=1e-5)
    sums = rising.advance(5).fetch().sums
    assert sums.loss[0] < plain.loss[0]
    # Its first loss has no KL in it.
    rising = Session(make_experiment(**settings, schedules={"beta": "linear:0:5"}))
    first = rising.advance(1).fetch().sums
    np.testing.assert_allclose(first.loss, first.distortion, rtol=1e-6)


def test_the_scheduled_value_at_each_step(make_experiment):
    schedules = {"capacity": "linear:0:10"}
    session = Session(make_experiment(objective="capacity_vae", schedules=schedules, **DENSE))
    seen = []
    for _ in range(12):
        session.carry = session.program.report(session.carry)
        seen.append(float(session.advance(1).fetch().sums.extras["capacity"][0]))
    np.testing.assert_allclose(seen, [2.5 * min(step, 10) for step in range(12)], rtol=1e-6)


def test_clipping_bounds_the_update_and_leaves_the_term(make_experiment):
    """With SGD in Adam's place, the step is the clipped gradient itself."""
    import optax

    experiment = make_experiment(coefficients={"beta": [1.0]}, **DENSE)
    sgd = experiment.objective._replace(optimizer=optax.sgd)
    settings = run_of(experiment.runs, 0)._replace(learning_rate=jnp.float32(1.0))
    state = jax.jit(training.make_init(experiment.model, sgd, (16, 16, 1), 3))(settings)
    norms = {}
    for clip_norm in (None, 0.5, 1e9):
        step = training.make_step(
            experiment.model, sgd, experiment.splits.train, 8, clip_norm=clip_norm
        )
        after, terms = jax.jit(step)(state, settings, experiment.splits.train.arrays)
        moved = jax.tree.map(np.subtract, *jax.device_get((after.params, state.params)))
        norms[clip_norm] = np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(moved)))
        np.testing.assert_allclose(terms.extras["grad_norm"], norms[None], rtol=1e-5)
    assert norms[None] > 1
    np.testing.assert_allclose(norms[0.5], 0.5, rtol=1e-5)
    np.testing.assert_allclose(norms[1e9], norms[None], rtol=1e-6)
