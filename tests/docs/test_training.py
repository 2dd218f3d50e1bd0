"""docs/training.md names the losses and keys that exist, and its example is a run's file."""

from __future__ import annotations

import dataclasses
import re
import tomllib

from gls_es.fitness import LOSSES
from gls_es.problem.recipe import Recipe
from tests.docs.markdown import ROOT, blocks, first_column, section

TRAINING = ROOT / "docs" / "training.md"
KEYS = {field.name for field in dataclasses.fields(Recipe)}


def test_the_losses() -> None:
    assert first_column(section(TRAINING, "Losses")) == ["loss", *LOSSES]


def test_the_keys_exist() -> None:
    for heading in ("Losses", "Schedules", "Initial weights and short ramps"):
        named = set(re.findall(r"`([a-z_0-9]+_[a-z_0-9]+)`", section(TRAINING, heading)))
        assert named <= KEYS, named - KEYS
    attack = {key for key in KEYS if key.startswith("attack_")}
    assert attack <= set(re.findall(r"`(attack_\w+)`", section(TRAINING, "Losses")))


def test_the_example_is_a_recipe() -> None:
    (text,) = (block.text for block in blocks(TRAINING) if block.language == "toml")
    content = tomllib.loads(text)
    recipe = Recipe().replaced(**content.pop("recipe"), loss=content.pop("loss"))
    assert set(content) == {"searcher", "generations"}
    assert recipe.loss in LOSSES
    assert recipe.learning_rate_drops[-1] < content["generations"]
