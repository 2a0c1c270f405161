"""Intervals adapt and stay honest; a crystal unlike any of training is said to be so."""

from dataclasses import replace

import numpy as np
import pytest

from potnet.calibration import (
    FEWEST,
    MAX_POINTS,
    Answers,
    Calibration,
    Contents,
    Evidence,
    Output,
    conformal_halfwidth,
    interval_scores,
)
from potnet.calibration.difficulty import Difficulty, _quantile_regression
from potnet.calibration.width import NEIGHBOURS

LEVEL = 0.9


def made_up(n: int, seed: int) -> tuple[Evidence, np.ndarray]:
    """Return crystals of ten elements and errors, larger for some elements, values and states."""
    rng = np.random.default_rng(seed)
    shares = np.zeros((n, 119))
    for row in shares:
        row[1 + rng.choice(10, 3, replace=False)] = rng.dirichlet(np.ones(3))
    states = rng.standard_normal((n, 12)).astype(np.float32)
    value = rng.standard_normal((n, 1))
    volumes = np.exp(2.5 + shares @ np.linspace(0, 1, 119) + 0.05 * rng.standard_normal(n))
    spreads = np.exp(0.5 * rng.standard_normal((n, 1)))
    scale = np.exp(0.8 * value[:, 0] + 3 * shares[:, 4]) * spreads[:, 0]
    errors = scale[:, None] * rng.standard_t(4, (n, 1))
    n_atoms = rng.integers(2, 40, n)
    return Evidence(states, value, spreads, shares, n_atoms, volumes), errors


def inside(errors: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Return whether the truth is in the interval: a prediction too high is above it."""
    return (errors <= halves[0]) & (-errors <= halves[1])


def contents(seen: Evidence) -> Contents:
    return Contents(seen.shares, seen.volumes)


ONE = (Output(),)


def fitted(n: int = 1000, outputs: tuple[Output, ...] = ONE) -> Calibration:
    trained, _ = made_up(2000, 0)
    held_out, errors = made_up(n, 1)
    return Calibration.fit(
        trained.states[:MAX_POINTS], contents(trained), held_out, errors, outputs, level=LEVEL
    )


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fitted()


def test_intervals_that_adapt_are_honest_on_new_crystals_easy_and_hard(calibration):
    seen, errors = made_up(5000, 2)
    (half,) = calibration.judge(seen).halfwidths
    covered = inside(errors[:, 0], half)
    assert 0.88 < covered.mean() < 0.92
    for rows in np.array_split(np.argsort(half.sum(0)), 5):
        assert 0.85 < covered[rows].mean() < 0.95


def test_intervals_that_adapt_score_better_than_those_of_constant_width(calibration):
    _, known = made_up(1000, 1)
    constant = conformal_halfwidth(known[:, 0], LEVEL)
    seen, errors = made_up(5000, 2)
    (half,) = calibration.judge(seen).halfwidths
    ends = [(constant, constant), half]
    scores = [interval_scores(-errors[:, 0], -h[0], h[1], LEVEL).mean() for h in ends]
    assert scores[1] < 0.7 * scores[0]


def test_with_few_crystals_the_width_stays_constant():
    assert fitted(FEWEST - 1).widths == (None,)
    assert fitted(FEWEST).widths != (None,)


def test_a_probability_has_no_interval():
    assert fitted(outputs=(Output(has_interval=False),)).widths == (None,)


def test_errors_that_are_all_zero_give_narrow_intervals():
    trained, _ = made_up(500, 0)
    held_out, errors = made_up(200, 1)
    found = Calibration.fit(
        trained.states, contents(trained), held_out, 0 * errors, (Output(),), level=LEVEL
    )
    (half,) = found.judge(held_out).halfwidths
    assert np.isfinite(half).all()
    assert half.max() == 0


def test_the_stored_calibration_says_the_same_to_the_last_bit(calibration):
    again = Calibration.from_arrays(calibration.arrays())
    seen, _ = made_up(100, 3)
    one, other = calibration.judge(seen), again.judge(seen)
    np.testing.assert_array_equal(one.halfwidths[0], other.halfwidths[0])
    np.testing.assert_array_equal(one.familiarity, other.familiarity)
    assert again.outputs == calibration.outputs


@pytest.mark.parametrize("name", ["outputs", "familiarity.levels", "familiarity.axes"])
def test_a_calibration_with_missing_or_wrong_numbers_is_refused(calibration, name):
    arrays = calibration.arrays()
    with pytest.raises(KeyError, match=name.rpartition(".")[2]):
        Calibration.from_arrays({k: v for k, v in arrays.items() if k != name})
    with pytest.raises(ValueError, match="not a number"):
        Calibration.from_arrays(arrays | {name: np.full_like(arrays[name], np.nan)})
    if name != "outputs":
        with pytest.raises(ValueError, match="do not fit together"):
            Calibration.from_arrays(arrays | {name: arrays[name][1:]})


def test_a_target_without_its_companion_gets_a_constant_width():
    trained, _ = made_up(500, 0)
    held_out, errors = made_up(300, 1)
    two = replace(
        held_out,
        outputs=np.hstack([held_out.outputs, 2 * held_out.outputs]),
        spreads=np.hstack([held_out.spreads, held_out.spreads]),
    )
    outputs = (Output(companion=1), Output(has_interval=False))
    both = np.hstack([errors, errors])
    found = Calibration.fit(trained.states, contents(trained), two, both, outputs, level=LEVEL)
    assert found.select([0]).widths == (None,)
    turned = found.select([1, 0])
    assert turned.outputs[1].companion == 0
    swapped = replace(two, outputs=two.outputs[:, ::-1], spreads=two.spreads[:, ::-1])
    np.testing.assert_array_equal(
        turned.judge(swapped).halfwidths[1], found.judge(two).halfwidths[0]
    )


def test_crystals_like_those_held_out_are_evenly_familiar(calibration):
    seen, _ = made_up(5000, 4)
    familiarity = calibration.judge(seen).familiarity
    shares = [(familiarity < level).mean() for level in (0.05, 0.1)]
    np.testing.assert_allclose(shares, (0.05, 0.1), atol=0.02)


def test_what_is_unlike_training_in_any_way_is_unfamiliar(calibration):
    seen, _ = made_up(50, 5)
    other_element = seen.shares.copy()
    other_element[:, 50], other_element[:, 1:11] = 0.5, 0.5 * other_element[:, 1:11]
    strange = (
        replace(seen, shares=other_element),
        replace(seen, volumes=4 * seen.volumes),
        replace(seen, states=seen.states + 8),
    )
    for crystals in strange:
        assert calibration.judge(crystals).familiarity.max() < 0.05


def test_a_network_without_states_is_calibrated_by_what_else_there_is():
    trained, _ = made_up(500, 0)
    held_out, errors = made_up(400, 1)
    none = replace(held_out, states=held_out.states[:, :0])
    found = Calibration.fit(
        trained.states[:, :0], contents(trained), none, errors, (Output(),), level=LEVEL
    )
    again = Calibration.from_arrays(found.arrays())
    assert again.judge(none).halfwidths[0].std() > 0
    assert again.judge(replace(none, volumes=4 * none.volumes)).familiarity.max() < 0.05


def test_the_factor_is_that_of_normalised_conformal_prediction_as_published():
    """Lei et al. (2018), section 5.2, written out: the rank-th smallest |residual| / scale."""
    rng = np.random.default_rng(0)
    scale = np.exp(rng.standard_normal(199))
    residuals = scale * rng.standard_normal(199)
    ratios = sorted(abs(r) / s for r, s in zip(residuals, scale, strict=True))
    rank = int(np.ceil(200 * LEVEL))
    assert sum(ratio <= ratios[rank - 1] for ratio in ratios) == rank
    assert conformal_halfwidth(residuals / scale, LEVEL) == ratios[rank - 1]


def test_quantile_regression_finds_the_quantile_that_scikit_learn_finds():
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (4000, 2))
    y = x @ [10.0, -20.0] + (15 + 10 * x[:, 0]) * rng.standard_normal(4000)
    rows = np.hstack([np.ones((4000, 1)), x])
    found = _quantile_regression(rows, y, np.zeros(3), LEVEL)
    oracle = linear.QuantileRegressor(quantile=LEVEL, alpha=0).fit(x, y)
    np.testing.assert_allclose(found, [oracle.intercept_, *oracle.coef_], atol=0.3)


def test_the_score_counts_width_and_misses():
    zero, one = np.zeros(3), np.ones(3)
    values = np.array([0.5, 1.1, -0.2])
    np.testing.assert_allclose(interval_scores(values, zero, one, LEVEL), [1, 3, 5])


def test_a_width_of_other_networks_takes_the_size_of_the_errors_at_hand(calibration):
    seen, errors = made_up(60, 5)
    own = fitted(60)
    assert own.widths == (None,)
    new = own.with_width(0, calibration.widths[0], seen, 3 * errors[:, 0], level=0.9)
    crystals, truth = made_up(4000, 6)
    (half,) = new.judge(crystals).halfwidths
    assert 0.82 < inside(3 * truth[:, 0], half).mean() < 0.97
    order = np.argsort(half[0])
    assert np.abs(truth[order[-400:], 0]).mean() > 3 * np.abs(truth[order[:400], 0]).mean()
    (once,) = calibration.judge(crystals).halfwidths
    np.testing.assert_allclose(half / once, (half / once)[0, 0])  # its shape, to another size


def skewed(n: int, seed: int) -> tuple[Evidence, np.ndarray]:
    """Return crystals whose predictions are far too high, or a little too low."""
    seen, errors = made_up(n, seed)
    return seen, np.where(errors > 0, errors, 0.1 * errors)


def test_an_interval_is_longer_on_the_side_where_errors_are_larger():
    trained, _ = made_up(2000, 0)
    held_out, errors = skewed(1000, 1)
    found = Calibration.fit(trained.states, contents(trained), held_out, errors, ONE, level=LEVEL)
    seen, truth = skewed(5000, 2)
    (halves,) = found.judge(seen).halfwidths
    assert np.median(halves[0] / halves[1]) > 3
    assert 0.88 < inside(truth[:, 0], halves).mean() < 0.92


def test_an_interval_has_its_middle_at_the_prediction_where_that_scores_better(calibration):
    seen, _ = made_up(100, 2)
    (halves,) = calibration.judge(seen).halfwidths
    np.testing.assert_array_equal(*halves)


def hidden(n: int, seed: int, size: float) -> tuple[Evidence, np.ndarray]:
    """Return crystals whose errors are large in one part of the space of states."""
    rng = np.random.default_rng(seed)
    seen, _ = made_up(n, seed)
    states = (seen.states @ np.diag([3.0] * 2 + [0.2] * 10)).astype(np.float32)
    hard = np.where((states[:, 0] > 0) ^ (states[:, 1] > 0), 1.0, 0.05)
    seen = replace(seen, states=states, spreads=np.ones((n, 1)))
    return seen, size * hard[:, None] * rng.standard_normal((n, 1))


def test_errors_on_training_crystals_say_where_errors_are_large():
    trained, own = hidden(4000, 0, 0.3)
    held_out, errors = hidden(600, 1, 1.0)
    seen, truth = hidden(3000, 2, 1.0)
    scores = []
    for training in (None, Answers(trained, own)):
        found = Calibration.fit(
            trained.states[:MAX_POINTS], contents(trained), held_out, errors, ONE,
            level=LEVEL, training=training,
        )  # fmt: skip
        again = Calibration.from_arrays(found.arrays())
        (halves,) = again.judge(seen).halfwidths
        np.testing.assert_array_equal(halves, found.judge(seen).halfwidths[0])
        assert 0.86 < inside(truth[:, 0], halves).mean() < 0.94
        scores.append(interval_scores(-truth[:, 0], -halves[0], halves[1], LEVEL).mean())
    assert scores[1] < 0.8 * scores[0]


def test_the_nearest_training_crystals_are_found_in_their_order():
    seen, _ = made_up(20, 1)
    familiarity = fitted(FEWEST).familiarity
    _, near = familiarity.seen(seen, NEIGHBOURS[-1])
    squares = ((familiarity.places(seen)[:, None] - familiarity.points) ** 2).sum(2)
    np.testing.assert_array_equal(near, np.argsort(squares, axis=1)[:, : NEIGHBOURS[-1]])


def test_archives_from_when_both_sides_were_alike_are_read(calibration):
    arrays = calibration.arrays()
    old = arrays | {"width0.factors": np.log(arrays["width0.factors"][0])}
    seen, _ = made_up(100, 3)
    np.testing.assert_allclose(
        Calibration.from_arrays(old).judge(seen).halfwidths[0],
        calibration.judge(seen).halfwidths[0],
        rtol=1e-12,
    )


def test_a_difficulty_leaves_out_columns_that_came_later():
    rng = np.random.default_rng(0)
    columns, shares = rng.standard_normal((60, 3)), rng.dirichlet(np.ones(119), 60)
    found = Difficulty.fit(columns, shares, rng.exponential(size=60), LEVEL)
    more = np.column_stack([columns, rng.standard_normal(60)])
    np.testing.assert_array_equal(found.of(more, shares), found.of(columns, shares))
