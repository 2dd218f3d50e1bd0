"""deepz's error terms: as many as there must be, pushed in chunks of the stated size; and what queries share."""

import pytest
import torch
from torch import Tensor

from gls_es.bounds import Plan, method_named, terms
from gls_es.bounds.box import Box
from gls_es.bounds.query import Query, entry_box
from gls_es.network.graph import ReLU
from tests.oracles.api import network
from tests.oracles.nets import BY_NAME
from tests.oracles.problems import problem


def asked(name: str, plan: Plan, members: int = 1, images: int = 2) -> tuple[Query, torch.Tensor]:
    """A query of a zoo network in float64, and labels."""
    task = problem(BY_NAME[name], members, images)
    net = network(task, torch.float64)
    box = entry_box(net, Box.between(task.lower.double(), task.upper.double()))
    return Query.ask(net, task.params.double(), box, plan=plan), task.labels


@pytest.mark.parametrize("limit", [1, 5000, 40_000, 1 << 40])
@pytest.mark.parametrize("name", ["conv_mixed", "resnet", "mlp"])
def test_no_chunk_of_terms_is_larger_than_the_plan(name: str, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    query, labels = asked(name, Plan(limit, members=2), members=2)
    pushed = []
    original = terms._pushed

    def recorded(*arguments: object) -> torch.Tensor:
        _, _, origin, chunk, _, index = arguments
        largest = max(torch.Size(node.shape).numel() for node in query.graph.nodes[origin : index + 1])
        count = chunk.shape[1:3].numel()
        assert count * query.members * largest * 8 <= limit or count == 1
        pushed.append(count)
        return original(*arguments)

    monkeypatch.setattr(terms, "_pushed", recorded)
    deepz = method_named("deepz")
    with torch.no_grad():
        deepz.preactivations(query)
        deepz.margins(query, labels)
    assert pushed
    assert max(pushed) > 1 or limit == 1


@pytest.mark.parametrize("name", ["conv_mixed", "resnet", "mlp", "cancelling"])
def test_terms_are_the_pixels_and_the_unstable_neurons(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """None for stable neurons and for pixels that cannot move."""
    query, labels = asked(name, Plan(1 << 40), images=1)
    query.box.radius.view(-1)[0] = 0.0
    pushed: dict[int, int] = {}
    original = terms._pushed

    def recorded(*arguments: object) -> torch.Tensor:
        pushed[arguments[2]] = arguments[3].shape[2]
        return original(*arguments)

    deepz = method_named("deepz")
    with torch.no_grad():
        deepz.preactivations(query)
        monkeypatch.setattr(terms, "_pushed", recorded)
        deepz.margins(query, labels)
    expected = {relu: int(((lo < 0) & (hi > 0)).sum()) for relu, (lo, hi) in query.bounds.items()}
    expected[query.regions.box] = query.box.radius.numel() - 1
    assert pushed == expected
    assert all(isinstance(query.node(i), ReLU) for i in pushed if i != query.regions.box)


def _rounding(size: Tensor, terms: int, *_: object) -> Tensor:
    return 1e-9 * size + 1e-12 * terms


@pytest.mark.parametrize("rounding", [None, _rounding], ids=["plain", "rounding"])
@pytest.mark.parametrize("name", ["conv_mixed", "resnet", "input_skip", "relu_first"])
def test_a_restarted_query_knows_nothing_that_depends_on_a_method(name: str, rounding: object) -> None:
    """What it shares with a query that went through another method changes nothing in its own bounds."""
    results = []
    for before in (None, "crown-zero"):
        query, labels = asked(name, Plan.default("cpu"))
        query.rounding = rounding
        query.errors = {} if rounding else None
        with torch.no_grad():
            if before:
                method_named(before).preactivations(query)
                method_named(before).margins(query, labels)
                query = query.restarted()
                assert not query.bounds
                assert not query.others
            crown = method_named("crown-intersect")
            crown.preactivations(query)
            results.append([crown.margins(query, labels), *(side for pair in query.bounds.values() for side in pair)])
    for fresh, restarted in zip(*results, strict=True):
        torch.testing.assert_close(restarted, fresh, rtol=0, atol=0)
