"""Folds and splits keep together what belongs together."""

from __future__ import annotations

import random

import pytest

from monai_difom.data import split_folds


def items(sizes: list[int]) -> list[dict[str, str]]:
    return [
        {"image": f"{group}_{n}.png", "group": str(group)}
        for group, size in enumerate(sizes)
        for n in range(size)
    ]


@pytest.mark.parametrize("sizes", [[1] * 7, [5, 1, 1, 3, 2], [4, 4, 4]])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_folds_hold_every_image_once_and_never_divide_a_group(sizes: list[int], count: int) -> None:
    given = items(sizes)
    folds = split_folds(given, count, seed=3)
    assert sorted(i["image"] for fold in folds for i in fold) == [i["image"] for i in given]
    groups = [{i["group"] for i in fold} for fold in folds]
    assert sum(map(len, groups)) == len(set().union(*groups)) == len(sizes)
    assert max(map(len, folds)) - min(map(len, folds)) <= max(sizes)
    shuffled = random.Random(0).sample(given, len(given))
    assert split_folds(shuffled, count, seed=3) == folds


@pytest.mark.parametrize("count", [0, 4])
def test_fewer_groups_than_folds_are_refused_with_what_is_allowed(count: int) -> None:
    with pytest.raises(ValueError, match=rf"6 labelled image.* {count} folds.*1 to 3 folds"):
        split_folds(items([2, 2, 2]), count)
