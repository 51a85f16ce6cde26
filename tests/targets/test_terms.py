"""What a distillation term may say."""

from __future__ import annotations

from typing import Any

import pytest

from monai_difom.losses import FeatureDistillationLoss
from monai_difom.targets import DistillationTerm, layer_terms, one_head_each

from ..tiny import make_teacher


def test_a_term_compares_the_fused_map_by_mse_unless_told_otherwise() -> None:
    term = DistillationTerm("feature", tap="bottleneck")
    assert (term.source, term.band, term.head) == ("fused", None, "linear")
    assert isinstance(term.loss, FeatureDistillationLoss)


def test_the_name_of_the_mask_loss_is_taken() -> None:
    with pytest.raises(ValueError, match="cannot be named 'segmentation'"):
        DistillationTerm("segmentation", tap="bottleneck")


def test_a_band_is_low_or_high_or_none() -> None:
    band: Any = "middle"
    with pytest.raises(ValueError, match="term 'a': band is 'middle'; allowed are null, 'low' and 'high'"):
        DistillationTerm("a", tap="bottleneck", band=band)


def test_layers_become_one_term_each_named_after_the_teachers_map() -> None:
    first, second = layer_terms({"layer2": "layer6", "layer4": "layer12"}, "sam", distance="cosine")
    assert (first.name, first.tap, first.source, first.head) == ("layer2", "layer6", "sam/layer2", "linear")
    assert (second.name, second.tap, second.source) == ("layer4", "layer12", "sam/layer4")
    assert first.loss is not second.loss
    with pytest.raises(ValueError, match="no hidden layers to match"):
        layer_terms({})


def test_every_teacher_gets_one_head_at_one_place_on_its_last_map_or_a_named_one() -> None:
    terms = one_head_each({"a": make_teacher(1), "b": make_teacher(2)}, "stride8", maps={"b": "fine"})
    assert [(term.name, term.tap, term.source, term.head) for term in terms] == [
        ("a", "stride8", "a/coarse", "mlp"),
        ("b", "stride8", "b/fine", "mlp"),
    ]


@pytest.mark.parametrize(
    ("maps", "message"), [({"c": "fine"}, "teacher in maps 'c'"), ({"a": "fin"}, "Did you mean 'fine'")]
)
def test_a_map_or_teacher_that_there_is_not_is_named(maps: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        one_head_each({"a": make_teacher(1)}, maps=maps)
