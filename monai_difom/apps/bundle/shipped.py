"""The bundles and overlays that come with the package: where they are, by name, and a copy of them to work on."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from ...utils import unknown_name

PACKAGE = Path(__file__).resolve().parents[2]
KINDS = ("bundles", "configs")


def shipped(kind: str) -> Path:
    """Return the folder of the bundles or of the overlays: beside the package in its project, inside it when installed.

    Args:
        kind: ``"bundles"`` or ``"configs"``.

    Raises:
        FileNotFoundError: the installation lacks it.
    """
    for folder in (PACKAGE.parent / kind, PACKAGE / "_shipped" / kind):
        if (folder / ("polyp_difom" if kind == "bundles" else "students")).is_dir():
            return folder
    raise FileNotFoundError(
        f"this installation of monai_difom has no {kind}. Install it again: pip install --force-reinstall monai-difom."
    )


def bundle_names() -> list[str]:
    """Return the names of the bundles that can be trained."""
    return sorted(file.parents[1].name for file in shipped("bundles").glob("*/configs/train.yaml"))


def bundle_folder(name: str) -> Path:
    """Return the folder of a bundle, by its name or as a path.

    Raises:
        ValueError: there is none; names the nearest.
    """
    if (Path(name) / "configs" / "train.yaml").is_file():
        return Path(name)
    if name not in bundle_names():
        raise ValueError(unknown_name("bundle", name, bundle_names()))
    return shipped("bundles") / name


def overlays(kind: str | None = None) -> dict[str, Path]:
    """Return overlays by name: ``students/unet``, or ``unet`` where one kind is asked for.

    Args:
        kind: folder of `configs`, such as ``"students"``, ``"teachers"``, ``"recipes"``; None for all.
    """
    root = shipped("configs")
    files = sorted((root / kind if kind else root).rglob("*.yaml"))
    return {
        file.relative_to(root / kind if kind else root).with_suffix("").as_posix(): file for file in files
    }


def overlay_file(name: str, kind: str | None = None) -> Path:
    """Return the file of an overlay: a path that exists, or the name of one that comes with the package.

    Args:
        name: path, ``students/unet``, or ``unet`` alone where no other kind has that name.
        kind: the only kind to look in.

    Raises:
        ValueError: there is no such overlay, or several; names them.
    """
    given = Path(name)
    if given.suffix in (".yaml", ".yml", ".json") and given.is_file():
        return given
    known = overlays(kind)
    # a path into the project's own folder means the same file wherever the command is run
    bare = name.removeprefix("configs/").removesuffix(".yaml")
    if bare in known:
        return known[bare]
    same = [full for full in known if full.rpartition("/")[2] == bare]
    if len(same) == 1:
        return known[same[0]]
    if same:
        raise ValueError(f"{name!r} names several overlays: {', '.join(same)}. Write one of these.")
    raise ValueError(unknown_name(f"overlay of {kind}" if kind else "overlay", name, known))


def config_file(name: str) -> Path:
    """Return a configuration file of a command: an overlay, a bundle by name, or a path into a bundle of the package.

    Args:
        name: as in `overlay_file`; ``polyp_difom`` or ``bundles/polyp_difom/configs/train.yaml`` too.
    """
    if not Path(name).is_file():
        if name in bundle_names():
            return shipped("bundles") / name / "configs" / "train.yaml"
        inside = shipped("bundles") / name.removeprefix("bundles/")
        if name.startswith("bundles/") and inside.is_file():
            return inside
    return overlay_file(name)


def copy_bundle(name: str, folder: Path) -> tuple[Path, Path]:
    """Copy a bundle and all overlays into ``folder/bundles/<name>`` and ``folder/configs``; return both.

    Raises:
        FileExistsError: one of them is there already: nothing is overwritten.
        ValueError: there is no such bundle.
    """
    source, targets = bundle_folder(name), (folder / "bundles" / name, folder / "configs")
    for target in targets:
        if target.exists():
            raise FileExistsError(f"{target} is there already. Give another folder, or remove it first.")
    junk = shutil.ignore_patterns("models", "eval", "__pycache__", "*.py")
    for origin, target in zip((source, shipped("configs")), targets, strict=True):
        shutil.copytree(origin, target, ignore=junk)
    return targets


def run_init(bundle: str, folder: Path) -> int:
    """Copy a bundle with its overlays to work on, print the command that trains it, and return the exit code."""
    try:
        own, configs = copy_bundle(bundle, folder)
    except (ValueError, OSError) as error:
        print(f"init: {error}", file=sys.stderr)
        return 2
    print(f"{own} and {configs} are yours to change. To train with MONAI's own command:\n")
    place = "" if folder == Path() else f"cd {folder} && "
    files = f"--config_file bundles/{bundle}/configs/train.yaml"
    print(
        f"{place}python -m monai.bundle run training --bundle_root bundles/{bundle} \\\n"
        f"  {files} \\\n  --dataset_dir DATA --output_dir runs/first --ckpt_dir runs/first/models"
    )
    print(
        "\nAn overlay of configs/ changes one thing each: --config_file \"['...train.yaml','configs/students/unetpp.yaml']\""
    )
    return 0
