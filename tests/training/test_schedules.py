"""Schedules: closed forms, ends, and the phases of a run."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gls_es.fitness import Attack, Stage
from gls_es.problem.recipe import Recipe
from gls_es.training.schedules import Schedule, cosine_decay, drops, geometric_decay, linear_ramp, smooth_ramp

steps = st.integers(0, 200)


@given(start=steps, stop=steps)
def test_the_ramp_never_falls_and_stays_within_its_ends(start: int, stop: int) -> None:
    values = [linear_ramp(step, start, stop) for step in range(210)]
    assert values == sorted(values)
    assert all(0 <= value <= 1 for value in values)
    assert all(value == 0 for value in values[:start])
    assert all(value == 1 for value in values[max(start, stop) :])


def test_the_ramp_is_a_line() -> None:
    assert [linear_ramp(step, 2, 6) for step in range(8)] == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert [linear_ramp(step, 3, 3) for step in range(5)] == [0, 0, 0, 1, 1]
    assert linear_ramp(0, 0, 0) == 1


def test_the_cosine() -> None:
    values = [cosine_decay(step, 5, 0.2) for step in range(7)]
    root = math.sqrt(0.5)
    wanted = [1, 0.2 + 0.8 * (1 + root) / 2, 0.6, 0.2 + 0.8 * (1 - root) / 2, 0.2, 0.2, 0.2]
    assert values == pytest.approx(wanted)


def test_the_geometric_decay_has_equal_factors() -> None:
    values = [geometric_decay(step, 4, 0.008) for step in range(6)]
    assert values == pytest.approx([1, 0.2, 0.04, 0.008, 0.008, 0.008])


@pytest.mark.parametrize("decay", [cosine_decay, geometric_decay])
def test_a_run_of_one_step_has_its_first_value(decay: object) -> None:
    assert decay(0, 1, 0.1) == 1  # type: ignore[operator]


@given(end=st.floats(0.001, 1), total=st.integers(2, 50))
def test_decays_fall_to_their_end(end: float, total: int) -> None:
    for decay in (cosine_decay, geometric_decay):
        values = [decay(step, total, end) for step in range(total)]
        assert values[0] == pytest.approx(1)
        assert values[-1] == pytest.approx(end)
        assert all(a >= b - 1e-12 for a, b in pairwise(values))


def test_the_phases_of_a_run() -> None:
    recipe = Recipe(
        generations=20, natural_until=4, ramp_until=8, warmup_method="ibp", warmup_until=10, natural_weight=0.2,
        eps_factor=1.5,
    )  # fmt: skip
    schedule = Schedule(recipe, 0.1, "crown")
    stages = [schedule.stage(generation) for generation in (0, 3, 4, 6, 8, 9, 10, 19)]
    assert [stage.eps for stage in stages] == pytest.approx([0, 0, 0, 0.075, 0.15, 0.15, 0.15, 0.15])
    assert [stage.natural_weight for stage in stages] == pytest.approx([1, 1, 1, 0.6, 0.2, 0.2, 0.2, 0.2])
    assert [stage.method for stage in stages] == ["ibp"] * 6 + ["crown"] * 2
    assert {stage.loss for stage in stages} == {"robust"}
    other = Schedule(recipe.replaced(main_method="crown-ibp"), 0.1, "crown")
    assert [other.stage(generation).method for generation in (9, 10)] == ["ibp", "crown-ibp"]


def test_the_losses_numbers_follow_the_ramp() -> None:
    recipe = Recipe(
        loss="crown-ibp", natural_until=2, ramp_until=6, natural_weight_start=0.0, natural_weight=0.4,
        crown_ibp_beta_end=0.5, ramp_regularizer=0.8, attack_steps=3, attack_step_size=0.7, attack_restarts=2,
        attack_eps_factor=2.1, sabr_lambda=0.9, mtl_ibp_alpha=0.1,
    )  # fmt: skip
    stages = [Schedule(recipe, 0.1, "ibp").stage(generation) for generation in (0, 2, 3, 4, 6, 99)]
    assert [stage.natural_weight for stage in stages] == pytest.approx([1, 0, 0.1, 0.2, 0.4, 0.4])
    assert [stage.crown_ibp_beta for stage in stages] == pytest.approx([1, 1, 0.875, 0.75, 0.5, 0.5])
    assert [stage.regularizer for stage in stages] == pytest.approx([0, 0, 0.6, 0.4, 0, 0])
    assert {stage.loss for stage in stages} == {"crown-ibp"}
    assert {stage.attack for stage in stages} == {Attack(3, 0.7, 2, 2.1)}
    assert {(stage.sabr_lambda, stage.mtl_ibp_alpha) for stage in stages} == {(0.9, 0.1)}
    assert stages[-1].attack_eps == pytest.approx(0.21)


def test_defaults_are_those_of_a_problem_on_its_own() -> None:
    """A problem that EvoTorch's searchers run without a recipe has the same losses, at full eps."""
    found = Schedule(Recipe(crown_ibp_beta_end=1.0), 0.1, "ibp").stage(999)
    assert found == Stage(eps=0.1, natural_weight=0.0, method="ibp")


@given(start=steps, length=st.integers(4, 200))
def test_the_smooth_ramp_bends_once(start: int, length: int) -> None:
    stop, middle = start + length, start + length // 4
    values = [smooth_ramp(step, start, stop) for step in range(stop + 5)]
    assert values[: start + 1] == [0] * (start + 1)
    assert values[stop:] == [1] * 5
    assert all(a < b for a, b in pairwise(values[start : stop + 1]))
    # a quartic up to the middle: relative to its value there, ((step - start) / (middle - start))^4
    for step in range(start, middle + 1):
        assert values[step] == pytest.approx(values[middle] * ((step - start) / (middle - start)) ** 4)
    # a line from there to 1, whose slope is the quartic's at the middle, 4 value / (middle - start)
    slope = (1 - values[middle]) / (stop - middle)
    assert slope == pytest.approx(4 * values[middle] / (middle - start))
    for step in range(middle, stop + 1):
        assert values[step] == pytest.approx(values[middle] + slope * (step - middle))


def test_a_smooth_ramp_too_short_to_bend_is_a_line() -> None:
    assert [smooth_ramp(step, 2, 5) for step in range(7)] == [linear_ramp(step, 2, 5) for step in range(7)]
    recipe = Recipe(ramp="smooth", natural_until=0, ramp_until=8)
    assert Schedule(recipe, 0.1, "ibp").stage(2).eps == pytest.approx(0.1 * 2**4 / (2**4 + 4 * 2**3 * 6))


def test_drops() -> None:
    assert [drops(step, (2, 2, 5), 0.5) for step in range(7)] == [1, 1, 0.25, 0.25, 0.25, 0.125, 0.125]
    assert drops(9, (), 0.5) == 1
    recipe = Recipe(
        generations=11, center_learning_rate=0.5, learning_rate_end=1.0, learning_rate_drops=(5, 8),
        learning_rate_drop_factor=0.2,
    )  # fmt: skip
    rates = [Schedule(recipe, 0.1, "ibp").learning_rate(g) for g in (0, 4, 5, 7, 8, 10)]
    assert rates == pytest.approx([0.5, 0.5, 0.1, 0.1, 0.02, 0.02])
    both = Schedule(recipe.replaced(learning_rate_end=0.1), 0.1, "ibp").learning_rate(5)
    assert both == pytest.approx(0.2 * 0.275)


@given(natural=steps, ramp=steps, factor=st.floats(0.5, 20))
def test_eps_never_falls_and_never_leaves_the_unit_interval(natural: int, ramp: int, factor: float) -> None:
    recipe = Recipe(natural_until=natural, ramp_until=ramp, eps_factor=factor)
    stages = [Schedule(recipe, 0.1, "crown").stage(generation) for generation in range(210)]
    radii = [stage.eps for stage in stages]
    assert radii == sorted(radii)
    assert radii[-1] == pytest.approx(min(1.0, 0.1 * factor))
    weights = [stage.natural_weight for stage in stages]
    assert weights == sorted(weights, reverse=True)
    assert all(weight == 1 for weight in weights[:natural])
    assert all(radius == 0 for radius in radii[:natural])
    assert weights[-1] == 0


def test_without_a_warm_up_the_method_holds_throughout() -> None:
    schedule = Schedule(Recipe(warmup_until=50), 0.1, "ibp")
    assert {schedule.stage(generation).method for generation in range(100)} == {"ibp"}


def test_rates() -> None:
    recipe = Recipe(generations=11, center_learning_rate=0.5, learning_rate_end=0.1, stdev_init=0.4, stdev_end=0.25)
    schedule = Schedule(recipe, 0.1, "crown")
    assert [schedule.learning_rate(g) for g in (0, 5, 10)] == pytest.approx([0.5, 0.275, 0.05])
    assert [schedule.stdev(g) for g in (0, 5, 10)] == pytest.approx([0.4, 0.2, 0.1])


@pytest.mark.parametrize(
    ("method", "stand_in", "wanted"),
    [
        ("crown", "crown-ibp", "crown-ibp"),
        ("crown", "ibp", "ibp"),
        ("crown-ibp", "ibp", "ibp"),
        ("crown-ibp", "crown-ibp", ""),
        ("ibp", "crown-ibp", ""),
        ("crown", "crown-same", ""),
        ("crown", "", ""),
    ],
)
def test_a_stand_in_is_used_where_it_is_cheaper(method: str, stand_in: str, wanted: str) -> None:
    recipe = Recipe(stand_in=stand_in, exact_images=3, candidates=2, warmup_method="crown-ibp", warmup_until=4)
    schedule = Schedule(recipe, 0.1, method)
    assert (schedule.stage(3).stand_in, schedule.stage(4).stand_in) == ("", wanted)
    assert (schedule.stage(4).exact_images, schedule.stage(4).candidates) == (3, 2)
