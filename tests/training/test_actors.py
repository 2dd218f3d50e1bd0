"""A run over two actors: equal to a run without, stopped by the loss of one, and resumed bit for bit."""

from pathlib import Path
from typing import Any

import pytest
import torch

from gls_es.errors import ConfigError, TrainingError
from gls_es.training import Actors, resume, train
from gls_es.training.checkpoint import load_checkpoint
from tests.conftest import with_ray
from tests.problem.toys import Blobs, Marked, options

from .running import assert_same

GENERATIONS = 5


@with_ray
def test_a_run_that_loses_an_actor_goes_on_bit_for_bit(ray: Any, tmp_path: Path) -> None:
    def run(name: str, **changes: Any) -> dict[str, Any]:
        problem = Marked(str(tmp_path), batch_size=8, **changes)
        train(problem, "pgpe", out=tmp_path / name, generations=GENERATIONS, overrides=small)
        return load_checkpoint(tmp_path / name / "checkpoint.pt")

    small = {key: value for key, value in options().items() if key != "batch_size"}
    alone, straight = run("alone"), run("straight", num_actors=2)
    assert torch.allclose(straight["center"], alone["center"], rtol=1e-5, atol=1e-6)
    (tmp_path / "die").touch()
    with pytest.raises(TrainingError, match="an actor was lost in generation 2") as stopped:
        run("broken", num_actors=2)
    assert f"Saved at generation 2; go on with `gls-es train --resume {tmp_path / 'broken'}`" in str(stopped.value)
    assert load_checkpoint(tmp_path / "broken" / "checkpoint.pt")["generation"] == 2
    (tmp_path / "die").unlink()
    resume(tmp_path / "broken")
    resumed = load_checkpoint(tmp_path / "broken" / "checkpoint.pt")
    assert_same(resumed["searcher_state"], straight["searcher_state"])
    assert ray.is_initialized()  # what runs already is used and left alone
    (tmp_path / "die").touch()  # an actor would die of it
    resume(tmp_path / "straight", generations=2 * GENERATIONS, actors=Actors(1))
    assert load_checkpoint(tmp_path / "straight" / "checkpoint.pt")["generation"] == 2 * GENERATIONS


def test_one_actor_is_this_process() -> None:
    assert Actors(1).arguments("cuda") == Actors().arguments("cpu") == {}
    assert Actors(2).arguments("cpu") == {"num_actors": 2}
    assert Actors(2, 0.5).arguments("cpu") == {"num_actors": 2, "num_gpus_per_actor": 0.5}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": -1}, "actors must be at least 0, not -1"),
        ({"count": 2, "gpus": -1.0}, "gpus_per_actor must be at least 0"),
        ({"count": 1, "gpus": 1.0}, "for a single GPU use device cuda"),
    ],
)
def test_actors_that_make_no_sense(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Actors(**given)


def test_the_main_process_stays_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="with actors the device is cpu, not meta"):
        Actors(2).arguments("meta")
    with pytest.raises(ConfigError, match="popsize must be a multiple of the number of actors, 4, not 6"):
        train(Blobs, out=tmp_path / "run", overrides=options(), actors=Actors(4))
    with pytest.raises(ConfigError, match="actors are settled by the problem object"):
        train(Blobs(), out=tmp_path / "run", actors=Actors(2))
    assert not (tmp_path / "run").exists()


def test_ray_gets_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine answers late; a cluster that somebody named does so only once."""
    import ray

    from gls_es.training import actors

    tried: list[str] = []

    def init(address: str, **_: Any) -> None:
        tried.append(address)
        if len(tried) < 3:
            raise RuntimeError("the raylet did not answer")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(actors, "_PAUSES", (0.0, 0.0))
    actors._start(2, None)
    assert tried == ["local"] * 3
    tried.clear()
    monkeypatch.setattr(actors, "_PAUSES", (0.0,))
    with pytest.raises(TrainingError, match=r"Ray could not be started \(2 tries\) \(the raylet did not answer\)"):
        actors._start(2, None)
    tried.clear()
    with pytest.raises(TrainingError, match="no Ray cluster answers at"):
        actors._start(2, "10.0.0.1")
    assert tried == ["10.0.0.1"]
