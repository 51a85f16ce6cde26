"""The published teachers, as plain data.

Licences are what the publishers state with the weights; parameters are those of the part that runs. A model that is
not listed loads in the same way when its family is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_SAM_FILES = "https://dl.fbaipublicfiles.com/segment_anything/"
_HUB = "https://huggingface.co/"
_DINOV3 = "DINOv3 License"


@dataclass(frozen=True)
class ZooEntry:
    """One published teacher.

    Args:
        name: short name.
        family: what of `monai_difom.networks.teachers` loads it.
        source: hub name, or file name of the native checkpoint.
        maps: its maps as ``name channels/stride`` (the stride is left out where it is the name); the default ones first.
        size: usual input side in pixels.
        parameters: millions, of the part that the teacher runs.
        licence: licence of the weights, as published with them.
        where: page or file to get the weights from.
        gated: the hub asks to accept terms first.
        option: command-line id that takes a local path, in an overlay of ``configs/teachers``; empty where there is none.
        folder: name of the folder that a native checkpoint is unpacked to, where its file name is not its own.
    """

    name: str
    family: str
    source: str
    maps: str
    size: int
    parameters: float
    licence: str
    where: str
    gated: bool = False
    option: str = ""
    folder: str = ""

    @property
    def on_hub(self) -> bool:
        """True where ``source`` is a hub name and not a file."""
        return self.where == _HUB + self.source


def _sam(kind: str, file: str, parameters: float) -> ZooEntry:
    family = f'SegmentAnythingTeacher("{kind}")'
    maps, where = "embedding 256/16", _SAM_FILES + file
    return ZooEntry(
        f"sam-{kind}", family, file, maps, 1024, parameters, "Apache-2.0", where, option="sam_weights"
    )


def _hub(
    name: str, family: str, source: str, maps: str, size: int, parameters: float, licence: str, **more: Any
) -> ZooEntry:
    return ZooEntry(name, family, source, maps, size, parameters, licence, _HUB + source, **more)


def _medclip(kind: str, maps: str, parameters: float) -> ZooEntry:
    where = f"https://storage.googleapis.com/pytrial/medclip-{kind}pretrained.zip"
    return ZooEntry(
        f"medclip-{kind.rstrip('-') or 'resnet'}",
        "MedCLIPTeacher",
        "pytorch_model.bin",
        maps,
        224,
        parameters,
        "MIT",
        where,
        option="medclip_weights",
        folder=f"medclip-{kind.rstrip('-') or 'resnet'}",
    )


_CONVNEXT = "stride4 {0}, stride8 {1}, stride16 {2}, stride32 {3}"
_PIXEL = "stride8 256, stride16, stride32, stride4, evidence 1/4"

#: all teachers that are known by name
ZOO: tuple[ZooEntry, ...] = (
    _sam("vit_b", "sam_vit_b_01ec64.pth", 89.7),
    _sam("vit_l", "sam_vit_l_0b3195.pth", 308.3),
    _sam("vit_h", "sam_vit_h_4b8939.pth", 637.0),
    ZooEntry(
        "medsam",
        "medsam_teacher",
        "medsam_vit_b.pth",
        "embedding 256/16",
        1024,
        89.7,
        "Apache-2.0",
        "https://github.com/bowang-lab/MedSAM (folder linked in its README)",
        option="medsam_weights",
    ),
    *(
        _hub(f"hf-{name}", "HubSAMTeacher", source, "embedding 256/16", 1024, parameters, "Apache-2.0")
        for name, source, parameters in (
            ("sam-base", "facebook/sam-vit-base", 89.7),
            ("sam-large", "facebook/sam-vit-large", 308.3),
            ("sam-huge", "facebook/sam-vit-huge", 637.0),
            ("medsam", "wanglab/medsam-vit-base", 89.7),
        )
    ),
    *(
        _hub(
            f"sam2.1-{size}",
            "HubSAMTeacher",
            f"facebook/sam2.1-hiera-{size}",
            "stride16 256, stride8, stride4",
            1024,
            parameters,
            "Apache-2.0",
        )
        for size, parameters in (("tiny", 27.2), ("base-plus", 69.1), ("large", 212.7))
    ),
    *(
        _hub(
            f"dinov2-{registers}{size}",
            "ViTTeacher",
            f"facebook/dinov2-{'with-registers-' if registers else ''}{size}",
            f"tokens {channels}/14",
            518,
            parameters,
            "Apache-2.0",
            option="dinov2",
        )
        for registers in ("", "reg-")
        for size, channels, parameters in (("small", 384, 22.1), ("base", 768, 86.6), ("large", 1024, 304.4))
    ),
    *(
        _hub(
            f"dinov3-{size}",
            "ViTTeacher",
            f"facebook/dinov3-{size}-pretrain-lvd1689m",
            f"tokens {c}/16",
            512,
            n,
            _DINOV3,
            gated=True,
            option="dinov2",
        )
        for size, c, n in (("vits16", 384, 21.6), ("vitb16", 768, 85.7), ("vitl16", 1024, 303.1))
    ),
    *(
        _hub(
            f"dinov3-convnext-{size}",
            "ConvNextTeacher",
            f"facebook/dinov3-convnext-{size}-pretrain-lvd1689m",
            _CONVNEXT.format(*channels),
            512,
            n,
            _DINOV3,
            gated=True,
        )
        for size, channels, n in (
            ("tiny", (96, 192, 384, 768), 27.8),
            ("small", (96, 192, 384, 768), 49.5),
            ("base", (128, 256, 512, 1024), 87.6),
            ("large", (192, 384, 768, 1536), 196.2),
        )
    ),
    _hub(
        "rad-dino", "ViTTeacher", "microsoft/rad-dino", "tokens 768/14", 518, 86.6, "MIT", option="rad_dino"
    ),
    _hub(
        "ijepa-vith14", "ViTTeacher", "facebook/ijepa_vith14_1k", "tokens 1280/14", 224, 630.8, "CC-BY-NC-4.0"
    ),
    _hub("clip-base", "ViTTeacher", "openai/clip-vit-base-patch16", "tokens 768/16", 224, 85.8, "MIT"),
    _hub("clip-large", "ViTTeacher", "openai/clip-vit-large-patch14", "tokens 1024/14", 224, 303.2, "MIT"),
    _hub(
        "siglip-base",
        "ViTTeacher",
        "google/siglip-base-patch16-224",
        "tokens 768/16",
        224,
        92.9,
        "Apache-2.0",
    ),
    _hub(
        "siglip-so400m",
        "ViTTeacher",
        "google/siglip-so400m-patch14-384",
        "tokens 1152/14",
        378,
        428.2,
        "Apache-2.0",
    ),
    _hub(
        "siglip2-base",
        "ViTTeacher",
        "google/siglip2-base-patch16-224",
        "tokens 768/16",
        224,
        92.9,
        "Apache-2.0",
    ),
    _hub(
        "oneformer",
        "MaskFormerTeacher",
        "shi-labs/oneformer_coco_swin_large",
        _PIXEL,
        512,
        201.0,
        "MIT",
        option="oneformer",
    ),
    _hub(
        "mask2former",
        "MaskFormerTeacher",
        "facebook/mask2former-swin-large-coco-panoptic",
        _PIXEL,
        512,
        201.0,
        "see model card",
        option="mask2former",
    ),
    _medclip("vit-", "stride16 384, stride32 768, embedding 512/32", 27.9),
    _medclip("", "stride16 1024, stride32 2048, embedding 512/32", 24.6),
    ZooEntry(
        "imagenet-mobilenetv2",
        'timm_teacher("mobilenetv2_100")',
        "timm/mobilenetv2_100.ra_in1k",
        "stride8 32, stride16 96, stride32 320",
        224,
        1.8,
        "Apache-2.0",
        _HUB + "timm/mobilenetv2_100.ra_in1k",
        option="teacher_weights",
    ),
)
