"""Published data sets in their own folders, brought to one form: a ``datalist.json`` that every bundle reads.

`prepare_layout` looks at a data set as it was downloaded, converts what no picture reader can open (DICOM, NIfTI, polygons), and
writes the lists of training and test images beside it. The original files are never changed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..transforms import is_picture, read_mask, read_picture_file
from ..utils import atomic_path, look_up, write_json
from ..utils.documents import read_large_json
from .datalists import DATALIST, split_validation
from .folder_files import files_by_stem, tell_not_taken
from .groups import regroup
from .items import Item
from .nifti import nifti_slices
from .prepared import changes, files_are_there, fingerprint_of
from .published.chaos import chaos

logger = logging.getLogger(__name__)
Found = Mapping[str, Any]

DRIVE = """DRIVE (retinal vessels, 20 + 20 images): https://drive.grand-challenge.org
  training/images/21_training.tif   training/1st_manual/21_manual1.gif   training/mask/21_training_mask.gif
  test/images/01_test.tif           test/1st_manual/01_manual1.gif       test/mask/01_test_mask.gif
PNG in place of TIFF and GIF is taken as well."""
PH2 = """PH2 (skin lesions, 200 images): https://www.fc.up.pt/addi/ph2%20database.html
  PH2 Dataset images/IMD002/IMD002_Dermoscopic_Image/IMD002.bmp
  PH2 Dataset images/IMD002/IMD002_lesion/IMD002_lesion.bmp"""
AUTOORAL = """AutoOral (oral ulcers, 420 images): https://github.com/wurenkai/HF-UNet-and-Autooral-dataset
  Autooral_dataset/Train/data_train/*.png   Autooral_dataset/Train/mask_train/*.png
  Autooral_dataset/Test/data_test/*.png     Autooral_dataset/Test/mask_test/*.png
An image and its mask have the same name, or the same after a leading or trailing word "mask" is taken off."""
KIDNEYUS = """KidneyUS (kidney ultrasound, about 500 images; images on registration): https://github.com/rsingla92/kidneyUS
  images/*.png (or the downloaded folder kidneyUS_images_*)
  labels/reviewed_masks_1/{capsule,regions}/*.png, or labels/reviewed_labels_1.csv (polygons of the VGG annotator)"""
REGIONS = ("central_echo_complex", "medulla", "cortex")


def prepare_layout(
    layout: str,
    dataset_dir: str | Path,
    prepared_dir: str | Path,
    test_fraction: float = 0.2,
    **options: Any,
) -> str:
    """Write the lists of a published data set, with what had to be converted, and return their folder.

    Args:
        layout: ``"drive"``, ``"ph2"``, ``"autooral"``, ``"kidneyus"``, ``"chaos"``, ``"pairs"`` or ``"nifti_slices"``.
        dataset_dir: the data set as downloaded and unpacked; the error message shows what it must look like.
        prepared_dir: folder for ``datalist.json`` and converted files. A list that is there already for the same options and
            files (paths, sizes, times) is used as it is; where files were added, changed or removed it is made
            anew, and a warning says so.
        test_fraction: share of the images that make the test set where the data set has none of its own; whole patients, always
            the same whatever the seed of a training.
        **options: ``target_mask`` of KidneyUS (``"capsule"`` or ``"regions"``) and ``annotator`` (1 or 2);
            ``images``, ``masks``, ``mask_suffix`` and ``group`` (see `regroup`) of pairs; those of `nifti_slices`;
            ``modality`` (``"CT"``, ``"MR"``), ``organ`` (a name or ``"all"``), ``sequences`` and ``window`` of CHAOS.

    Returns:
        ``prepared_dir``, to be given to `train_validation` and `test_sets`.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: unknown layout, files that do not look like it, or the folder holds the lists of other data.
    """
    read = look_up("data layout", layout, LAYOUTS)
    root, target = Path(dataset_dir).expanduser().resolve(), Path(prepared_dir).expanduser().resolve()
    if not root.is_dir():
        raise FileNotFoundError(f"there is no data set at {root}. {EXAMPLES[layout]}")
    about = {
        "layout": layout,
        "dataset_dir": str(root),
        "test_fraction": test_fraction,
        "options": _plain(options),
    }
    seen = fingerprint_of(root, target)
    file = target / DATALIST
    if file.is_file():
        found = read_large_json(file)
        if found.get("prepared") != about:
            raise ValueError(
                f"{file} holds other data: {found.get('prepared')}; wanted is {about}. Give another prepared_dir, or remove it."
            )
        if found.get("files") == seen and files_are_there(found, file):
            return str(target)
        logger.warning(
            "%s was made from other files of %s: %s. It is made anew.",
            file,
            root,
            changes(found.get("files"), seen),
        )
    target.mkdir(parents=True, exist_ok=True)
    if layout == "nifti_slices":  # splits volumes, before it leaves out slices
        options["test_fraction"] = test_fraction
    content = dict(read(root, target, **options))
    if not content.get("test"):
        content["training"], content["test"] = split_validation(content["training"], test_fraction, seed=0)
    write_json(file, {"prepared": about, "files": seen, **content})
    return str(target)


def _plain(value: Any) -> Any:
    """Options as JSON gives them back."""
    return json.loads(json.dumps(value, default=list))


def _wrong(layout: str, root: Path, what: str) -> ValueError:
    shown = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in root.iterdir())[:15]
    return ValueError(
        f"{root}: {what} Found there: {', '.join(shown) or 'nothing'}. Expected:\n{EXAMPLES[layout]}"
    )


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    entries = sorted(folder.iterdir())
    found = [f for f in entries if is_picture(f) and f.is_file() and not f.name.startswith(".")]
    tell_not_taken(folder, {f.name: "no picture" for f in entries if f.is_file() and f not in found})
    return found


def _by_key(files: Sequence[Path], key: Callable[[Path], str]) -> dict[str, Path]:
    """Files by a part of their name; two with the same are refused."""
    found: dict[str, Path] = {}
    for file in files:
        if found.setdefault(key(file), file) != file:
            raise ValueError(
                f"{found[key(file)]} and {file} have the same name {key(file)!r}: keep one of them."
            )
    return found


def _inside(root: Path, *names: str) -> Path:
    """The first of some subfolders that exists, upper or lower case, or the folder itself."""
    known = {entry.name.lower(): entry for entry in root.iterdir() if entry.is_dir()}
    return next((known[name.lower()] for name in names if name.lower() in known), root)


def _item(image: Path, label: Path, group: str) -> Item:
    return {"image": str(image), "label": str(label), "group": group}


def drive(root: Path, target: Path) -> Found:
    """DRIVE: first observer, official split. Outside the field of view image and mask are set to 0 in the copies."""
    lists: dict[str, list[Item]] = {}
    for part, key in (("training", "training"), ("test", "test")):
        folder = _inside(root, "DRIVE") / part
        by_number = [
            _by_key(_pictures(folder / name), lambda f: f.name.split("_")[0])
            for name in ("images", "1st_manual", "mask")
        ]
        images, labels, fields = by_number
        if not images or images.keys() != labels.keys() or images.keys() != fields.keys():
            raise _wrong(
                "drive",
                root,
                f"{part} holds {len(images)} images, {len(labels)} masks of the first observer and {len(fields)} fields of view, "
                "which must belong together by their numbers.",
            )
        lists[key] = [_drive_pair(images[n], labels[n], fields[n], target / part, n) for n in sorted(images)]
    return lists


def _drive_pair(image: Path, label: Path, field: Path, folder: Path, number: str) -> Item:
    inside = read_mask(field, 128)
    item = _item(folder / "image" / f"{number}.png", folder / "mask" / f"{number}.png", number)
    # copies: what is outside of the field becomes 0
    pixels = {
        "image": np.array(read_picture_file(image)),
        "label": read_mask(label).astype(np.uint8) * np.uint8(255),
    }
    for key, source in (("image", image), ("label", label)):
        if pixels[key].shape[:2] != inside.shape:
            raise ValueError(
                f"{source} is {pixels[key].shape[:2]}, but its field of view {field} is {inside.shape}."
            )
        pixels[key][~inside] = 0
        with atomic_path(item[key]) as temporary:
            Image.fromarray(pixels[key]).save(temporary, format="PNG", compress_level=1)
    return item


def ph2(root: Path, target: Path) -> Found:
    """PH2: one folder per case, BMP; no test set of its own."""
    cases = [
        f for f in sorted(_inside(root, "PH2 Dataset images", "PH2_Dataset_images").iterdir()) if f.is_dir()
    ]
    items, broken = [], []
    for case in cases:
        images = _pictures(case / f"{case.name}_Dermoscopic_Image")
        masks = _pictures(case / f"{case.name}_lesion")
        if len(images) == 1 and len(masks) == 1:
            items.append(_item(images[0], masks[0], case.name))
        else:
            broken.append(case.name)
    if not items or broken:
        raise _wrong(
            "ph2",
            root,
            f"{len(items)} cases are whole, {len(broken)} not ({', '.join(broken[:5]) or 'none'}).",
        )
    return {"training": items}


def autooral(root: Path, target: Path) -> Found:
    """AutoOral: folders Train, Val where there is one, and Test."""
    base = _inside(root, "Autooral_dataset", "Autooral")
    lists: dict[str, list[Item]] = {}
    for part, key in (("Train", "training"), ("Val", "validation"), ("Test", "test")):
        folder = _inside(base, part)
        if folder == base:
            continue
        images = _by_key(_pictures(_inside(folder, f"data_{part}", "images", "image")), _stem)
        masks = _by_key(_pictures(_inside(folder, f"mask_{part}", "masks", "mask")), _stem)
        if not images or images.keys() != masks.keys():
            lonely = sorted(images.keys() ^ masks.keys())[:5]
            raise _wrong(
                "autooral",
                root,
                f"{part}: {len(images)} images and {len(masks)} masks do not pair up ({', '.join(lonely)}).",
            )
        lists[key] = [_item(images[stem], masks[stem], stem) for stem in sorted(images)]
    if "training" not in lists:
        raise _wrong("autooral", root, "there is no folder Train.")
    return lists


def _stem(file: Path) -> str:
    return file.stem.lower().removeprefix("mask_").removesuffix("_mask").removesuffix("_segmentation")


def kidneyus(root: Path, target: Path, target_mask: str = "capsule", annotator: int = 1) -> Found:
    """KidneyUS: masks of one annotator; images without a mask are left out, images of one patient stay together."""
    if target_mask not in ("capsule", "regions") or annotator not in (1, 2):
        raise ValueError(
            f"target_mask is {target_mask!r} and annotator {annotator}; allowed are capsule or regions, 1 or 2."
        )
    labels = _inside(root, "labels")
    folders = [root / "images", labels / "images", *sorted(root.glob("kidneyUS_images*")), root]
    images = next(
        (found for folder in folders if (found := _by_key(_pictures(folder), lambda f: f.stem))), {}
    )
    masks = _by_key(_pictures(labels / f"reviewed_masks_{annotator}" / target_mask), lambda f: f.stem)
    table = next(
        (
            f
            for f in (
                labels / f"reviewed_labels_{annotator}.csv",
                *root.rglob(f"reviewed_labels_{annotator}.csv"),
            )
            if f.is_file()
        ),
        None,
    )
    if not masks and table is not None:
        from .published.polygons import draw_polygons

        names = (
            {"Capsule": 1}
            if target_mask == "capsule"
            else {"Cortex": 3, "Medulla": 2, "Central Echo Complex": 1}
        )
        masks = draw_polygons(table, images, names, target / "masks")
    # the number in front of a name is the patient's
    items = [
        _item(images[stem], masks[stem], stem.split("_")[0]) for stem in sorted(images.keys() & masks.keys())
    ]
    if not items:
        raise _wrong(
            "kidneyus", root, f"{len(images)} images and {len(masks)} masks ({target_mask}) share no name."
        )
    return {"training": items, **({"structures": list(REGIONS)} if target_mask == "regions" else {})}


def pairs(
    root: Path,
    target: Path,
    images: str = "images",
    masks: str = "masks",
    mask_suffix: str = "",
    group: str | None = None,
) -> Found:
    """Any two folders of pictures: a mask has the name of its image, with a suffix where there is one."""
    folders = [root / images, root / masks]
    for folder in folders:
        if not folder.is_dir():
            raise _wrong("pairs", root, f"there is no folder {folder.name}.")
    known, marked = files_by_stem(folders[0]), files_by_stem(folders[1])
    wanted = {stem: f"{stem}{mask_suffix}" for stem in known}
    lonely = [known[stem].name for stem in known if wanted[stem] not in marked]
    strange = [marked[stem].name for stem in marked if stem not in wanted.values()]
    if not known or lonely or strange:
        raise _wrong(
            "pairs",
            root,
            f"{len(lonely)} of {len(known)} images have no mask ({', '.join(lonely[:5]) or 'none'}), "
            f"{len(strange)} masks no image ({', '.join(strange[:5]) or 'none'}).",
        )
    items = [_item(known[stem], marked[wanted[stem]], stem) for stem in sorted(known)]
    # before the test set is taken: no patient may be in both
    return {"training": items if group is None else regroup(items, group, root)}


LAYOUTS: dict[str, Callable[..., Found]] = {
    "drive": drive,
    "ph2": ph2,
    "autooral": autooral,
    "kidneyus": kidneyus,
    "chaos": chaos,
    "pairs": pairs,
    "nifti_slices": nifti_slices,
}
PAIRS = """Two folders of pictures whose names you give:
  <images>/case_01.jpg   <masks>/case_01.png, or with a suffix: <masks>/case_01_mask.png"""
NIFTI = """NIfTI volumes with masks on the same grid:
  {images,masks}/case.nii.gz, or imagesTr/case.nii.gz (case_0000.nii.gz) with labelsTr/case.nii.gz, or a datalist.json"""
CHAOS = """CHAOS (abdominal organs, CHAOS_Train_Sets.zip): https://doi.org/10.5281/zenodo.3362844
  Train_Sets/CT/1/DICOM_anon/*.dcm          Train_Sets/CT/1/Ground/*.png
  Train_Sets/MR/1/T2SPIR/DICOM_anon/*.dcm   Train_Sets/MR/1/T2SPIR/Ground/*.png
  Train_Sets/MR/1/T1DUAL/DICOM_anon/{InPhase,OutPhase}/*.dcm
or NIfTI: <CT or MR>/imagesTr/*.nii.gz with <CT or MR>/labelsTr/*.nii.gz
(0 background, 1 liver, 2 right kidney, 3 left kidney, 4 spleen)"""
EXAMPLES = {
    "drive": DRIVE,
    "ph2": PH2,
    "autooral": AUTOORAL,
    "kidneyus": KIDNEYUS,
    "chaos": CHAOS,
    "pairs": PAIRS,
    "nifti_slices": NIFTI,
}


def class_names(prepared_dir: str | Path) -> Sequence[str]:
    """Return the names of the classes of a prepared data set: one for binary masks."""
    content = read_large_json(Path(prepared_dir) / DATALIST)
    return content.get("structures") or ["foreground"]
