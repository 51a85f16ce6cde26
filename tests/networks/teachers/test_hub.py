"""What a person reads when a model is not there, gated or broken, with and without a network."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import transformers

from monai_difom.networks.teachers import ConvNextTeacher, HubSAMTeacher, MaskFormerTeacher, ViTTeacher
from monai_difom.networks.teachers.hub import Normalisation, explained, read_normalisation


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    # without it the hub client waits half a minute before it gives up
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("load", [ViTTeacher, ConvNextTeacher, HubSAMTeacher, MaskFormerTeacher])
def test_a_hub_model_that_cannot_be_had_says_which_how_to_get_it_and_what_takes_a_path(
    load: Callable,
) -> None:
    message = (
        r"'someone/none' is no local folder and cannot be had from the hub: .*"
        r"hf download someone/none --local-dir <folder>\. Then give the folder as `model` \(command line of a bundle: "
    )
    with pytest.raises(OSError, match=message):
        load("someone/none")


@pytest.mark.parametrize(
    ("load", "model", "message"),
    [
        (ViTTeacher, "facebook/dinov2-base", r"hf download facebook/dinov2-base .*--dinov2 <folder>"),
        (ViTTeacher, "microsoft/rad-dino", r"--rad_dino <folder>"),
        (MaskFormerTeacher, "shi-labs/oneformer_coco_swin_large", r"--oneformer <folder>"),
        (
            ViTTeacher,
            "facebook/dinov3-vitb16-pretrain-lvd1689m",
            r"It is gated: accept its terms at https://huggingface.co/facebook/dinov3-vitb16.*`hf auth login` first",
        ),
    ],
)
def test_a_model_of_the_zoo_names_its_own_option_and_whether_it_is_gated(
    load: Callable, model: str, message: str
) -> None:
    with pytest.raises(OSError, match=message):
        load(model)


def test_a_gated_model_is_explained_by_what_the_hub_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_args: object, **_more: object) -> None:
        raise OSError("You are trying to access a gated repo.\nMake sure to have access to it at ...")

    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", refused)
    message = r"'someone/none' .*You are trying to access a gated repo\. If it is gated, accept its terms on its hub page"
    with pytest.raises(OSError, match=message):
        ViTTeacher("someone/none")


@pytest.mark.parametrize(
    "path", ["./weights/none", "/nowhere/at/all", "weights/a/b", "dinov2-base", r"C:\models\dino", "C:/dino"]
)
def test_what_is_no_hub_name_is_a_missing_folder(path: str) -> None:
    with pytest.raises(
        FileNotFoundError, match=re.escape(f"there is no folder {path!r} for a teacher's `model`")
    ):
        ViTTeacher(path)


@pytest.mark.parametrize("separator", ["/", "\\"])
def test_a_hub_name_is_one_on_every_system(separator: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sep", separator)
    assert explained("facebook/dinov2-base", lambda: "loaded") == "loaded"


def test_a_processor_that_does_not_normalise_leaves_the_image_as_it_is(tmp_path: Path) -> None:
    transformers.ViTImageProcessor(do_normalize=False, resample=3).save_pretrained(tmp_path)
    found = read_normalisation(str(tmp_path), Normalisation())
    assert found == Normalisation((0.0,) * 3, (1.0,) * 3, "bicubic")
