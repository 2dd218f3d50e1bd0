"""The zoo's networks are what their entries say."""

from __future__ import annotations

import dataclasses

import pytest

from gls_es import certify, zoo
from gls_es.errors import CheckpointError, ConfigError
from gls_es.training import load_trained


@pytest.mark.parametrize("name", zoo.ENTRIES)
def test_every_network_loads_and_has_no_training_state(name: str) -> None:
    trained = load_trained(f"zoo:{name}")
    assert trained.eps == zoo.ENTRIES[name].eps
    assert "searcher_state" not in trained.content
    assert zoo.ENTRIES[name].path.stat().st_size < 200_000


def test_a_certificate_works_at_once() -> None:
    trained = load_trained("zoo:digits-cnn3")
    images, labels = trained.dataset().test.batch(slice(0, 60))
    report = certify(trained, images, labels, trained.eps, stages=("ibp", "crown-ibp"))
    entry = zoo.ENTRIES["digits-cnn3"]
    assert report.natural_accuracy > entry.natural - 0.1  # 60 of the entry's images
    assert report.certified_accuracy > entry.certified - 0.2


def test_an_architecture_s_published_name_is_taken() -> None:
    assert zoo.located("zoo:mnist-cnn3-small") == zoo.located("zoo:mnist-cnn3")


def test_unknown_names_are_refused_with_the_closest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'digits-cnn3'"):
        zoo.located("zoo:digit-cnn3")


def test_a_file_that_is_not_the_published_one_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = dataclasses.replace(zoo.ENTRIES["digits-cnn3"], sha256="0" * 64)
    monkeypatch.setitem(zoo.ENTRIES, "digits-cnn3", entry)
    with pytest.raises(CheckpointError, match="not the published file"):
        zoo.located("zoo:digits-cnn3")
