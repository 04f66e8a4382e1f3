"""Names of configs and what is behind them."""

import re

import pytest

from madbench.data import SOURCES
from madbench.errors import UserError
from madbench.models import FAMILIES


def test_names_are_found_with_and_without_a_path():
    assert SOURCES.find("digits") is SOURCES.find("digits:somewhere")
    assert SOURCES.find("digits").__module__ == "madbench.data.digits"


def test_settings_are_those_of_the_function_and_of_what_it_builds():
    assert FAMILIES.settings("gaussian") == {"ddof": 1}
    found = FAMILIES.settings("diffusion")
    assert found["width"] == 256  # of `build`
    assert found["batch_size"] == 128  # of the dataclass
    assert not found.keys() & {"shape", "num_classes", "bounds", "group", "net"}  # not the user's


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("oracle", {}, "unknown model family 'oracle'; config.model.family is one of gaussian, diffusion"),
        (None, {}, "unknown model family None"),
        ("gaussian", {"ddof": 1, "width": 2}, "config.model.width does not fit family 'gaussian', which takes ddof;"),
    ],
)
def test_what_does_not_fit_is_one_line(name, settings, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        FAMILIES.check(name, settings)
    assert "\n" not in str(caught.value)
