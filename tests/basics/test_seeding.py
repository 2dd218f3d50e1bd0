"""Random choices are functions of their purpose, and an epoch shows every image once."""

import subprocess
import sys

import pytest
import torch

from gls_es.basics.seeding import derived_seed, generator, minibatch_indices


def test_seeds_depend_on_every_argument_and_on_their_borders() -> None:
    found = [
        derived_seed(0),
        derived_seed(1),
        derived_seed(0, "minibatch"),
        derived_seed(0, "minibatch", 1),
        derived_seed(0, "minibatch", 11),
        derived_seed(0, "minibatch", 1, 1),
        derived_seed(0, "initial weights", 1),
        derived_seed(1, "minibatch", 1),
        derived_seed(11, "minibatch"),
    ]
    assert len(set(found)) == len(found)
    assert all(0 <= seed < 2**63 for seed in found)


def test_seeds_are_the_same_in_every_process() -> None:
    code = "from gls_es.basics.seeding import derived_seed; print(derived_seed(7, 'population', 3))"
    environment = {"PYTHONHASHSEED": "12345"}
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert int(other.stdout) == derived_seed(7, "population", 3)


def test_generators_repeat() -> None:
    draws = [torch.rand(5, generator=generator(3, "x", k)) for k in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize(("size", "total"), [(1, 7), (3, 7), (7, 7), (6, 7), (64, 64), (5, 23)])
def test_epochs_cover_every_image_once(size: int, total: int) -> None:
    walk = torch.cat([minibatch_indices(5, g, size=size, total=total) for g in range(4 * total)])
    epochs = walk[: len(walk) // total * total].reshape(-1, total)
    assert len(epochs) >= 4
    assert torch.equal(epochs.sort(1).values, torch.arange(total).expand(len(epochs), -1))
    if total > 1:
        assert not torch.equal(epochs[0], epochs[1])  # shuffled anew


def test_a_minibatch_is_a_function_of_seed_and_generation() -> None:
    later_first = [minibatch_indices(1, g, size=4, total=50) for g in (9, 3, 9)]
    assert torch.equal(later_first[0], later_first[2])
    assert not torch.equal(later_first[0], later_first[1])
    assert not torch.equal(later_first[0], minibatch_indices(2, 9, size=4, total=50))
    before = torch.get_rng_state()
    minibatch_indices(1, 0, size=4, total=50)
    assert torch.equal(before, torch.get_rng_state())  # nobody else's randomness is used up


def test_more_than_all_images_means_all() -> None:
    assert torch.equal(minibatch_indices(0, 3, size=100, total=6).sort().values, torch.arange(6))
