"""Recipes refuse what makes no sense, in one sentence."""

import dataclasses
import math
from typing import Any

import pytest

from gls_es.errors import ConfigError
from gls_es.problem.recipe import Recipe


@pytest.mark.parametrize(
    ("key", "close"),
    [("popsiz", "popsize"), ("center_lr", None), ("center_learnin_rate", "center_learning_rate"), ("sigma_init", None)],
)
def test_an_unknown_key_is_refused_with_the_closest_name(key: str, close: str | None) -> None:
    with pytest.raises(ConfigError) as caught:
        Recipe().replaced(**{key: 1})
    message = str(caught.value)
    assert f"unknown key {key!r}" in message
    if close is not None:
        assert f"did you mean '{close}'?" in message


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("popsize", 2.5, "a whole number"),
        ("popsize", "8", "a whole number"),
        ("popsize", True, "a whole number"),
        ("generations", None, "a whole number"),
        ("l1", "small", "a number"),
        ("stdev_init", True, "a number"),
        ("optimizer", 3, "a text"),
        ("generations", 0, "at least 1"),
        ("popsize", 0, "at least 1"),
        ("batch_size", -1, "at least 1"),
        ("evaluate_every", 0, "at least 1"),
        ("evaluate_images", 0, "at least 1"),
        ("natural_until", -1, "at least 0"),
        ("ramp_until", -1, "at least 0"),
        ("warmup_until", -1, "at least 0"),
        ("stdev_init", -0.1, "at least 0"),
        ("stdev_learning_rate", math.nan, "at least 0"),
        ("l1", math.inf, "at least 0"),
        ("center_learning_rate", 0.0, "greater than 0"),
        ("center_learning_rate", math.nan, "greater than 0"),
        ("learning_rate_end", -1.0, "greater than 0"),
        ("stdev_end", 0.0, "greater than 0"),
        ("eps_factor", math.inf, "greater than 0"),
        ("natural_weight", 1.5, "between 0 and 1"),
        ("natural_weight", math.nan, "between 0 and 1"),
        ("natural_weight_start", 1.1, "between 0 and 1"),
        ("sabr_lambda", -0.1, "between 0 and 1"),
        ("mtl_ibp_alpha", 2.0, "between 0 and 1"),
        ("crown_ibp_beta_end", math.nan, "between 0 and 1"),
        ("attack_steps", 0, "at least 1"),
        ("attack_restarts", 0, "at least 1"),
        ("attack_step_size", 0.0, "greater than 0"),
        ("attack_eps_factor", math.inf, "greater than 0"),
        ("ramp", "quadratic", "one of linear, smooth"),
        ("ramp_regularizer", -1.0, "at least 0"),
        ("learning_rate_drops", 5, "a list"),
        ("learning_rate_drops", (5, 2), "generations in ascending order"),
        ("learning_rate_drops", (1.5,), "generations in ascending order"),
        ("learning_rate_drops", (-1,), "generations in ascending order"),
        ("learning_rate_drop_factor", 0.0, "greater than 0"),
        ("gradient_clip", -1.0, "at least 0"),
        ("antithetic", 1, "true or false"),
        ("stdev_mode", "layer", "one of absolute, relative"),
        ("fitness", "centered", "one of raw, normalized, ranks"),
        ("optimizer", "adamw", "one of adam, clipup, sgd"),
    ],
)
def test_values_that_make_no_sense_are_refused(key: str, value: Any, wanted: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Recipe().replaced(**{key: value})
    message = str(caught.value)
    assert message == f"recipe: {key} must be {wanted}, not {value!r}."


def test_whole_numbers_do_for_numbers_and_are_stored_as_such() -> None:
    recipe = Recipe(stdev_init=0, l1=1)
    assert (type(recipe.stdev_init), type(recipe.l1)) == (float, float)
    assert Recipe(popsize=0x10).popsize == 16


def test_the_table_of_a_recipe_makes_it_again() -> None:
    recipe = Recipe(popsize=10, fitness="ranks", l1=1e-5, warmup_method="ibp", learning_rate_drops=(3, 5))
    table = recipe.as_dict()
    assert Recipe(**table) == recipe
    assert set(table) == {field.name for field in dataclasses.fields(Recipe)}
    assert table["learning_rate_drops"] == [3, 5]
    assert all(type(value) in (int, float, str, bool, list) for value in table.values())


def test_replacing_leaves_the_original_alone() -> None:
    recipe = Recipe()
    assert recipe.replaced(popsize=4).popsize == 4
    assert recipe == Recipe()


def test_every_field_is_documented() -> None:
    for field in dataclasses.fields(Recipe):
        assert f"\n        {field.name}: " in (Recipe.__doc__ or "")


def test_a_loss_brings_its_usual_attack_unless_one_was_chosen() -> None:
    def attack(recipe: Recipe) -> tuple[str, int, float]:
        return recipe.loss, recipe.attack_steps, recipe.attack_step_size

    pgd = Recipe().replaced(loss="adversarial")
    mtl = pgd.replaced(loss="mtl-ibp")
    assert attack(pgd) == ("adversarial", 8, 0.25)
    assert attack(mtl) == ("mtl-ibp", 1, 2.0)
    assert attack(mtl.replaced(generations=5)) == ("mtl-ibp", 1, 2.0)
    assert attack(mtl.replaced(loss="sabr")) == ("sabr", 1, 2.0)
    assert attack(mtl.replaced(loss="adversarial")) == ("adversarial", 8, 0.25)
    assert attack(pgd.replaced(loss="mtl-ibp", attack_steps=8, attack_step_size=0.25)) == ("mtl-ibp", 8, 0.25)
    assert attack(pgd.replaced(attack_steps=3).replaced(loss="mtl-ibp")) == ("mtl-ibp", 3, 0.25)
    for recipe in (mtl, Recipe(loss="mtl-ibp"), pgd.replaced(attack_steps=3)):
        assert Recipe().replaced(**recipe.as_dict()) == recipe  # as a checkpoint brings it back


def test_a_stand_in_goes_with_the_robust_loss() -> None:
    recipe = Recipe(stand_in="crown-ibp")
    assert recipe.replaced(popsize=8).stand_in == "crown-ibp"
    assert recipe.replaced(loss="sabr").stand_in == ""
    with pytest.raises(ConfigError, match="stand_in must be empty unless loss is 'robust'"):
        recipe.replaced(loss="sabr", stand_in="ibp")
