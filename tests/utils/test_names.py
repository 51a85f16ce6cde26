"""A misspelt name is answered with the nearest."""

from __future__ import annotations

import pytest

from monai_difom.utils import look_up, unknown_name

TABLE = {"mse": 1, "smooth_l1": 2, "cosine": 3}


def test_a_known_name_gives_its_entry() -> None:
    assert look_up("distance", "cosine", TABLE) == 3


def test_a_misspelt_name_is_answered_with_the_nearest_and_all_allowed() -> None:
    expected = r"unknown distance 'cosin'\. Did you mean 'cosine'\? Allowed: cosine, mse, smooth_l1\."
    with pytest.raises(ValueError, match=expected):
        look_up("distance", "cosin", TABLE)


def test_a_name_in_other_letters_is_the_nearest() -> None:
    assert "Did you mean 'L1'?" in unknown_name("tap", "l1", ["L1", "L2"])
    assert "Did you mean 'cosine'?" in unknown_name("distance", "COSINE", TABLE)


def test_a_name_that_is_like_none_gets_no_guess() -> None:
    assert unknown_name("tap", "xyz", ["L1", "L2"]) == "unknown tap 'xyz'. Allowed: L1, L2."


def test_where_nothing_is_allowed_the_message_says_so() -> None:
    assert unknown_name("tap", "L1", []).endswith("Allowed: none.")
