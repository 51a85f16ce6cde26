"""Every YAML of the project builds, and says on top what it is for."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from monai.bundle import ConfigParser
from safetensors.torch import save_file
from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

from monai_difom.data import make_polyps
from monai_difom.networks.teachers import Teacher
from monai_difom.transforms import NormalizeImaged
from tests.networks.teachers.test_mask_former import save as save_mask_former
from tests.networks.teachers.test_medclip import TINY as MEDCLIP
from tests.networks.teachers.test_medclip import save_swin as save_medclip

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "bundles" / "polyp_difom" / "configs"
OVERLAYS = sorted((ROOT / "configs").rglob("*.yaml"))
ADAPTED = ("sam_small", "sam_lora", "unet_adapted")
ALL = [*OVERLAYS, *sorted((ROOT / "bundles").rglob("*.yaml"))]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the encoders that overlays read from `teacher_weights`: the default's, and others beside it."""
    folder = tmp_path_factory.mktemp("weights")
    for file, name in (("mobilenetv2", "mobilenetv2_100"), ("efficientnet_lite2", "tf_efficientnet_lite2")):
        torch.manual_seed(0)
        network = timm.create_model(name, pretrained=False, features_only=True)
        save_file(network.state_dict(), str(folder / f"{file}.safetensors"))
    return folder / "mobilenetv2.safetensors"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_polyps(folder, train=6, test=1, size=48)
    return folder


def parser(overlay: Path | None, data: Path, weights: Path) -> ConfigParser:
    files = [BUNDLE / "train.yaml", *([overlay] if overlay else [])]
    found = ConfigParser()
    found.read_config([str(file) for file in files])
    own = weights.with_name(f"{overlay.stem if overlay else ''}.safetensors")
    found.update(
        {
            "dataset_dir": str(data),
            "teacher_weights": str(own if own.is_file() else weights),
            "image_size": 128,
            "device": "cpu",
            "progress": False,
        }
    )
    return found


@pytest.mark.parametrize("file", ALL, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_yaml_opens_with_what_it_is_for_and_how_to_run_it(file: Path) -> None:
    head = file.read_text().split("\n\n")[0]
    lines = [line for line in head.splitlines() if line.startswith("#")]
    assert len(lines) >= 3
    assert any("Run:" in line for line in lines)


@pytest.mark.parametrize(
    "overlay",
    [
        file
        for file in OVERLAYS
        if file.stem not in ("2f", "3f", "4f", "medical", "specialists", "volume_bundle", *ADAPTED)
        and file.parent.name not in ("arms", "data", "label", "slices", "volumes")
        and not file.stem.endswith("_3d")
    ],  # built below or in tests/bundles, from tiny files
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_every_overlay_builds_a_trainer(overlay: Path, data: Path, weights: Path) -> None:
    config = parser(overlay, data, weights)
    trainer = config.get_parsed_content("train#trainer")
    trainer.plan.check_terms(trainer.targets.terms)
    _, maps = trainer.distiller.eval()(torch.zeros(1, 3, 128, 128))
    trainer.targets.check_grids({name: value.shape[2:] for name, value in maps.items()})


SAM = {"embed_dim": 16, "depth": 2, "num_heads": 2, "global_attn_indexes": [1], "img_size": 64}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny local files and folders of every teacher of the sets."""
    folder = tmp_path_factory.mktemp("teachers")
    torch.manual_seed(0)
    for name in ("sam.pth", "medsam_vit_b.pth"):
        torch.save(_tiny_sam(SAM), folder / name)
    dino = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=56, patch_size=14
    )
    for name in ("dino", "rad-dino"):
        Dinov2Model(dino).save_pretrained(folder / name)
        BitImageProcessor(image_mean=[0.4] * 3, image_std=[0.2] * 3).save_pretrained(folder / name)
    for name in ("mask2former", "oneformer"):
        save_mask_former(name, folder / name)
    (folder / "medclip").mkdir()
    save_medclip(folder / "medclip")
    return folder


# command-line ids of each set, with what a tiny model needs beside its path
LOCAL = {
    "sam": {"sam_weights": "sam.pth", "sam_size": 64, "teachers#sam#architecture": SAM},
    "dinov2": {"dinov2": "dino", "dinov2_size": 56},
    "oneformer": {"oneformer": "oneformer", "oneformer_size": 64},
    "mask2former": {"mask2former": "mask2former", "mask2former_size": 64},
    "medsam": {
        "medsam_weights": "medsam_vit_b.pth",
        "medsam_size": 64,
        "teachers#medsam#architecture": SAM,
    },
    "rad_dino": {"rad_dino": "rad-dino", "rad_dino_size": 56},
    "medclip": {"medclip_weights": "medclip", "medclip_size": 64, "teachers#medclip#architecture": MEDCLIP},
}
SETS = {
    "2f": ("sam", "dinov2"),
    "3f": ("sam", "dinov2", "oneformer"),
    "4f": ("sam", "dinov2", "oneformer", "mask2former"),
    "medical": ("medsam", "rad_dino", "medclip"),
}


@pytest.mark.parametrize(("name", "members"), SETS.items(), ids=list(SETS))
def test_a_set_of_teachers_builds_from_local_files_by_its_command_line_ids(
    name: str, members: tuple[str, ...], data: Path, weights: Path, local: Path
) -> None:
    config = parser(ROOT / f"configs/teachers/{name}.yaml", data, weights)
    for member in members:
        values = LOCAL[member]
        config.update({k: str(local / v) if isinstance(v, str) else v for k, v in values.items()})
    targets = config.get_parsed_content("targets")
    assert list(targets.teachers) == list(members)
    assert all(isinstance(teacher, Teacher) for teacher in targets.teachers.values())
    assert all(teacher.licence for teacher in targets.teachers.values())
    targets.fit([torch.rand(2, 3, 64, 64)])
    found = targets(torch.rand(1, 3, 64, 64), {"bottleneck": (4, 4), "stride8": (8, 8)})
    assert found["stride8"].shape == (1, targets.channels("stride8"), 8, 8)


def _tiny_sam(shape: dict) -> dict[str, torch.Tensor]:
    """A native SAM checkpoint in small: the encoder under its published prefix."""
    from functools import partial

    from segment_anything.modeling import ImageEncoderViT

    encoder = ImageEncoderViT(
        img_size=shape["img_size"],
        embed_dim=shape["embed_dim"],
        depth=shape["depth"],
        num_heads=shape["num_heads"],
        global_attn_indexes=tuple(shape["global_attn_indexes"]),
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        patch_size=16,
        qkv_bias=True,
        use_rel_pos=True,
        window_size=14,
        out_chans=256,
    )
    return {f"image_encoder.{key}": value for key, value in encoder.state_dict().items()}


def loaders(node: object) -> list[dict]:
    """All data loaders of a configuration that may drop their last batch."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    own = [node] if isinstance(node, dict) and "drop_last" in node else []
    return [*own, *(found for child in children for found in loaders(child))]


@pytest.mark.parametrize("file", ALL, ids=lambda file: str(file.relative_to(ROOT)))
def test_whether_the_last_batch_is_dropped_is_decided_on_a_processs_own_share(file: Path) -> None:
    # a data set of enough images for a batch may be dealt out to shares that are smaller: nothing would be left
    for loader in loaders(ConfigParser.load_config_file(str(file)) or {}):
        assert loader["drop_last"] == f"$len({loader['sampler']}) >= @batch_size"


def test_a_teacher_to_adapt_is_built_for_the_task_and_no_smaller_than_the_student(
    data: Path, weights: Path
) -> None:
    config = parser(ROOT / "configs/teachers/efficientnet_lite2.yaml", data, weights)
    network = config.get_parsed_content("teacher_def")
    levels = torch.tensor([0.0, 127.0, 255.0]).view(1, 1, 1, 3).expand(1, 3, 1, 3) / 255
    shown = network.normalize(NormalizeImaged("image")({"image": levels[0]})["image"][None])
    torch.testing.assert_close(shown[0, 0, 0], torch.tensor([-127 / 128, 0.0, 1.0]), atol=1e-4, rtol=0)
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1, 64, 64)
    for size, wanted in ((96, 192), (128, 256), (352, 352), ([96, 128], [192, 256])):
        config.update({"image_size": size})
        config.parse(True)
        assert config.get_parsed_content("teacher_size") == wanted


def test_the_published_recipe_is_the_phases_of_the_paper() -> None:
    recipe, phases = (ROOT / "configs" / name for name in ("recipes/published.yaml", "phases/paper.yaml"))
    assert recipe.read_text() == phases.read_text()


@pytest.mark.parametrize(
    "overlay", sorted((ROOT / "configs/teachers").glob("*.yaml")), ids=lambda file: file.stem
)
def test_no_teacher_is_adapted_from_random_weights(overlay: Path) -> None:
    # without a file its weights are those of the hub, or it is refused; false or null would be silent
    parser = ConfigParser()
    parser.read_config([str(ROOT / "bundles/polyp_difom/configs/train.yaml"), str(overlay)])
    definition = parser.get("teacher_def") or {}
    if "pretrained" not in definition:
        return
    parser["teacher_weights"] = None
    try:
        found = parser.get_parsed_content("teacher_def#pretrained")
    except (ValueError, RuntimeError) as error:  # MONAI wraps what an expression raises
        found = f"{error} {error.__cause__}"
    assert found is True or "teacher_weights is not given" in str(found)
