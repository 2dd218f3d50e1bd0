"""What may have been meant by a name that is none."""

import pytest

from gls_es.basics.suggestions import alike, ending, named, question
from gls_es.errors import ConfigError

KNOWN = {"crown": 1, "crown-ibp": 2, "ibp": 3}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("crwn", ["crown"]),
        ("crown_ibp", ["crown-ibp"]),
        ("cro", ["crown"]),
        ("ipb", ["ibp"]),
        ("xyzzy", []),
        ("trades", []),  # not "taps": half of the letters are others
        (3, []),
    ],
)
def test_the_most_alike_or_none(name: object, found: list[str]) -> None:
    assert alike(name, [*KNOWN, "taps"]) == found


def test_equally_alike_names_are_all_named() -> None:
    problems = ["digits-cnn3", "digits-cnn5", "mnist-cnn3", "digits-cnn7"]
    assert alike("digits-cnn4", problems) == ["digits-cnn3", "digits-cnn5", "digits-cnn7"]
    assert question("digits-cnn4", problems[:2]) == "did you mean 'digits-cnn3' or 'digits-cnn5'? "


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
