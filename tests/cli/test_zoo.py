"""gls-es zoo."""

import json
from collections.abc import Callable

from click.testing import Result

from gls_es.zoo import ENTRIES, located

Run = Callable[..., Result]


def test_every_network_is_listed_with_its_numbers(run: Run) -> None:
    result = run("zoo")
    assert result.exit_code == 0
    heading, *rows = result.stdout.splitlines()
    assert heading.split() == ["network", "eps", "images", "natural", "certified", "made", "by"]
    assert [row.split()[0] for row in rows] == [f"zoo:{name}" for name in ENTRIES]
    for row, entry in zip(rows, ENTRIES.values(), strict=True):
        assert f"{100 * entry.certified:.1f} %  {entry.made_by}" in row


def test_the_names_are_those_that_certify_takes(run: Run) -> None:
    networks = json.loads(run("zoo", "--json").stdout)["networks"]
    assert [network["path"] for network in networks] == [str(located(network["name"])) for network in networks]
    assert [network["certified_accuracy"] for network in networks] == [entry.certified for entry in ENTRIES.values()]
