"""EvoTorch's other searchers: as EvoTorch has them, on the same seeds, saved and restored, and safe from NaN."""

from typing import Any

import pytest
import torch
from evotorch import algorithms
from torch import Tensor

from gls_es.errors import ConfigError
from gls_es.problem.recipe import Recipe
from gls_es.searchers.others import MOST_WEIGHTS
from gls_es.searchers.table import (
    DEFAULTS,
    build,
    position,
    restore_searcher,
    run_generation,
    searcher_state,
    set_learning_rate,
    set_stdev,
    spread,
)
from tests.problem.toys import Formula, Hole, Quadratic, Scripted, quadratic_gradient

OTHERS = ["snes", "xnes", "cem", "cmaes", "ga"]


def searched(name: str, problem: Any, generations: int, center: Tensor | None = None, **changes: Any) -> Any:
    searcher = build(name, problem, DEFAULTS[name].replaced(popsize=32, **changes), center=center)
    for generation in range(generations):
        problem.begin(generation)
        run_generation(searcher)
    return searcher


@pytest.mark.parametrize("name", OTHERS)
def test_each_finds_the_minimum_of_a_quadratic(name: str) -> None:
    """Whose gradient is known: it is nearly 0 at the end, and was not at the start."""
    rates: dict[str, float] = {"stdev_init": 0.5}
    rates |= {"center_learning_rate": 1.0} if name != "ga" else {}
    rates |= {"stdev_learning_rate": 0.1} if name == "cem" else {}  # faster, it loses its spread on the way
    start, problem = torch.full((4,), 2.0), Quadratic(seed=1)
    searcher = build(name, problem, DEFAULTS[name].replaced(popsize=32, **rates), center=start)
    for generation in range(150):
        if name == "ga":
            set_stdev(searcher, 0.5 * 0.96**generation)
        problem.begin(generation)
        run_generation(searcher)
    assert float(quadratic_gradient(start).norm()) > 5
    assert float(quadratic_gradient(position(searcher)).norm()) < 0.5


@pytest.mark.parametrize(("name", "cls"), [("snes", algorithms.SNES), ("xnes", algorithms.XNES)])
def test_natural_gradients_are_those_of_evotorch(name: str, cls: Any) -> None:
    """XNES in fewer dimensions than members and in more; EvoTorch makes all outer products and exponentiates them."""
    for size in (6, 40):
        recipe = DEFAULTS[name].replaced(popsize=10, stdev_init=0.3, center_learning_rate=0.7)
        ours = build(name, Formulas(size), recipe, center=torch.ones(size))
        theirs = cls(
            Formulas(size), popsize=10, stdev_init=0.3, center_learning_rate=0.7, center_init=torch.ones(size),
            stdev_learning_rate=recipe.stdev_learning_rate,
        )  # fmt: skip
        ours.run(6)
        theirs.run(6)
        torch.testing.assert_close(ours._distribution.mu, theirs._distribution.mu, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours._distribution.sigma, theirs._distribution.sigma, rtol=1e-3, atol=1e-4)
        if name == "xnes":
            square = ours._distribution.A @ ours._distribution.A_inv
            torch.testing.assert_close(square, torch.eye(size), rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore")  # EvoTorch's CMAES as it is
def test_cmaes_is_that_of_evotorch() -> None:
    for size in (6, 40):
        ours = build("cmaes", Formulas(size), DEFAULTS["cmaes"].replaced(popsize=10), center=torch.ones(size))
        stdev = DEFAULTS["cmaes"].stdev_init
        theirs = algorithms.CMAES(Formulas(size), popsize=10, stdev_init=stdev, center_init=torch.ones(size))
        for _ in range(12):
            ours.step()
            theirs.step()
        torch.testing.assert_close(ours.m, theirs.m, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(ours.C, theirs.C, rtol=1e-3, atol=1e-4)
        variance = ours.sigma**2 * ours.C.diagonal()
        torch.testing.assert_close(spread(ours).square(), variance)


class Formulas(Formula):
    """A valley whose axes are no coordinates."""

    def __init__(self, size: int, **options: Any) -> None:
        super().__init__(size, **options)

    def losses(self, values: Tensor) -> Tensor:
        steps = torch.arange(1, values.shape[1] + 1, dtype=values.dtype)
        return (values * steps).cumsum(1).square().sum(1) / steps[-1] ** 2


@pytest.mark.parametrize("name", OTHERS)
def test_a_saved_one_goes_on_bit_for_bit(name: str) -> None:
    def advance(searcher: Any, generations: range) -> Tensor:
        for generation in generations:
            searcher.problem.begin(generation)
            set_learning_rate(searcher, 0.9**generation)
            run_generation(searcher)
        return position(searcher).clone()

    recipe = DEFAULTS[name].replaced(popsize=16)
    first = build(name, Formulas(12), recipe)
    halfway = advance(first, range(7))
    state = searcher_state(first)
    kept = {key: value.clone() for key, value in state.items() if isinstance(value, Tensor)}
    final = advance(first, range(7, 14))
    second = build(name, Formulas(12), recipe)
    restore_searcher(second, state)
    assert torch.equal(position(second), halfway)
    assert not torch.equal(halfway, final)
    assert torch.equal(advance(second, range(7, 14)), final)
    assert all(torch.equal(state[key], value) for key, value in kept.items())
    assert second.step_count == 14
    assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))


def tensors(searcher: Any) -> list[Tensor]:
    return [value for value in searcher_state(searcher).values() if isinstance(value, Tensor)]


@pytest.mark.parametrize("name", OTHERS)
def test_a_seed_decides_a_search(name: str) -> None:
    one, again, other = (position(searched(name, Formulas(12, seed=seed), 4)) for seed in (3, 3, 4))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("bad", [float("nan"), float("-inf")])
def test_a_bad_member_never_wins(name: str, bad: float) -> None:
    """In 600 dimensions noises are nearly orthogonal, so that a step towards a member is that member's own doing."""
    problem = Scripted(size=600)
    problem.script = torch.arange(16.0)
    problem.script[5] = bad
    searcher = build(name, problem, DEFAULTS[name].replaced(popsize=16, stdev_init=0.1))
    start = position(searcher).clone()
    drawn = []
    problem.before_eval_hook.append(lambda batch: drawn.append(batch.access_values(keep_evals=True).clone()))
    run_generation(searcher)
    members, step = drawn[0].as_subclass(Tensor) - start, position(searcher) - start
    assert searcher.status["nonfinite"] == 1
    assert float(torch.cosine_similarity(step, members[5], dim=0)) < 0.2
    assert float(torch.cosine_similarity(step, members[0], dim=0)) > 0.25 or name == "ga"
    if name == "ga":  # the first member is the center, without noise, and it is the best one
        assert torch.equal(step, torch.zeros(600))


@pytest.mark.parametrize("name", OTHERS)
def test_a_descent_into_nan_stays_finite(name: str) -> None:
    slower = {"stdev_learning_rate": 0.3} if name == "xnes" else {}  # or its spread grows while the loss is linear
    searcher = searched(name, Hole(), 60, center=torch.tensor([0.5, 0.0]), stdev_init=0.2, **slower)
    assert bool(torch.isfinite(position(searcher)).all())
    assert bool(torch.isfinite(spread(searcher)).all())
    assert 0.6 < float(position(searcher)[0]) < 1.3


@pytest.mark.parametrize("name", ["snes", "xnes", "cem", "cmaes"])
def test_a_population_that_is_mostly_nan_goes_where_it_is_not(name: str) -> None:
    """13 of 16 members are NaN, the finite ones differ: the step leads to the better two of these."""
    problem = Scripted(size=600)
    problem.script = torch.full((16,), torch.nan)
    problem.script[[3, 8, 11]] = torch.tensor([1.0, 0.0, 0.5])
    searcher = build(name, problem, DEFAULTS[name].replaced(popsize=16, stdev_init=0.1))
    start, drawn = position(searcher).clone(), []
    problem.before_eval_hook.append(lambda batch: drawn.append(batch.access_values(keep_evals=True).clone()))
    run_generation(searcher)
    members, step = drawn[0].as_subclass(Tensor) - start, position(searcher) - start
    towards = torch.cosine_similarity(step, members, dim=1)
    others = torch.tensor([index not in (8, 11) for index in range(16)])
    assert float(towards[[8, 11]].min()) > 0.4
    assert float(towards[others].max()) < 0.2


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("snes", {"fitness": "raw"}, 'snes ranks its members: its recipe needs fitness="ranks"'),
        ("snes", {"stdev_init": 0.0}, "snes learns from noise"),
        ("snes", {"gradient_clip": 1.0}, "snes has no gradient to clip"),
        ("xnes", {"optimizer": "adam"}, "xnes takes plain steps"),
        ("cem", {"popsize": 6}, "popsize must be at least 8, not 6"),
        ("cem", {"center_learning_rate": 1.5}, "center_learning_rate must be at most 1, not 1.5"),
        ("cmaes", {"stdev_mode": "relative"}, "cmaes begins with one σ for all weights"),
        ("cmaes", {"stdev_learning_rate": 0.5}, "leave stdev_learning_rate at 1"),
        ("cmaes", {"stdev_end": 0.5}, "cmaes learns σ"),
        ("ga", {"popsize": 7}, "popsize must be even, not 7"),
        ("ga", {"stdev_learning_rate": 0.1}, "ga does not learn σ"),
    ],
)
def test_what_a_searcher_cannot_follow(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name, Quadratic(), DEFAULTS[name].replaced(**changes))


@pytest.mark.parametrize("name", ["xnes", "cmaes"])
def test_matrices_are_for_few_weights(name: str) -> None:
    build(name, Formula(size=8), DEFAULTS[name])
    message = f"{name} keeps L x L numbers, for at most {MOST_WEIGHTS} weights, and this network has 3002; use snes"
    with pytest.raises(ConfigError, match=message):
        build(name, Formula(size=MOST_WEIGHTS + 2), DEFAULTS[name])


def test_noise_can_be_relative_to_layers() -> None:
    recipe = Recipe().replaced(**DEFAULTS["snes"].as_dict()).replaced(stdev_mode="relative", stdev_init=0.5)
    searcher = build("snes", Formula(size=8), recipe, center=torch.full((8,), 0.2))
    torch.testing.assert_close(spread(searcher), torch.full((8,), 0.1))
