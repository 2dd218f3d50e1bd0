"""What may have been meant by a name that is none."""

import pytest

from gls_es.basics.suggestions import ending, named, nearest, question
from gls_es.errors import ConfigError

KNOWN = {"crown": 1, "crown-ibp": 2, "ibp": 3}


@pytest.mark.parametrize(
    ("name", "found"), [("crwn", "crown"), ("crown_ibp", "crown-ibp"), ("cro", "crown"), ("xyzzy", None), (3, None)]
)
def test_the_most_alike_or_none(name: object, found: str | None) -> None:
    assert nearest(name, KNOWN) == found


def test_the_words() -> None:
    assert question("crwn", KNOWN) == "did you mean 'crown'? "
    assert question("xyzzy", KNOWN) == ""
    assert ending("crwn", KNOWN) == "; did you mean 'crown'?"
    assert ending("xyzzy", KNOWN) == "."
    assert ending("xyzzy", KNOWN, "; choose crown.") == "; choose crown."


def test_look_up_by_name() -> None:
    table = {"ibp": 1, "crown": 2}
    assert named(table, "crown", "unknown method") == 2
    with pytest.raises(ConfigError, match=r"unknown method 'crwn': did you mean 'crown'\? choose one of ibp, crown\."):
        named(table, "crwn", "unknown method")
    for strange in (["crown"], None, 3):
        with pytest.raises(ConfigError, match="choose one of ibp, crown"):
            named(table, strange, "unknown method")
