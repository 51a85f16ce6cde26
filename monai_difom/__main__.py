"""``python -m monai_difom <verb>``: what a bundle command cannot say in one line.

Nothing heavy is imported until a verb runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path

from . import __version__
from .apps.arguments import Existing, Number, Parser

TYPE_CHECKING = False  # true for type checkers; without the module typing, see the package
if TYPE_CHECKING:
    from typing import Any


DATA = Existing("there is no data set at {}. Give the folder of its images and masks, or a datalist.json.")
IMAGES = Existing("there are no images at {}. Give a folder of them.")
RUN = Existing("there is no run at {}. Give the output_dir of a training, or a bundle.")
MODEL = Existing("no model at {}: give a bundle's folder, a run's folder or a model file.")


def _demo(parser: argparse.ArgumentParser) -> None:
    folder = Path("runs/demo")
    parser.add_argument(
        "--output", type=Path, default=folder, metavar="DIR", help=f"where to write ({folder})"
    )
    parser.add_argument(
        "--seed",
        type=Number(0, high=2**32 - 1),
        default=0,
        help="seed of images, first weights and training (0)",
    )
    parser.add_argument("--quick", action="store_true", help="tiny, in seconds, to see that everything runs")


def _train(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("data", type=DATA, nargs="?", metavar="DATA", help="folder of images with masks, or a datalist.json")
    add("--resume", dest="resume_run", type=RUN, metavar="RUN", help="go on with an interrupted run")
    add(
        "--teacher",
        dest="teachers",
        nargs="+",
        default=[],
        metavar="NAME",
        help="what teaches: see the verb teachers; or a finished run, whose masks of other images do",
    )
    add("--student", metavar="NAME", help="overlay of configs/students (the bundle's own U-Net)")
    add("--recipe", metavar="NAME", help="overlay of configs/recipes (the bundle's own)")
    add("--bundle", default="polyp_difom", metavar="NAME", help="whose method is used (polyp_difom)")
    add("--control", action="store_true", help="also train the student without teachers, and report both")
    add(
        "--quick", action="store_true", help="64 images at most, small and short: to see that everything runs"
    )
    add(
        "--images", metavar="NAME", help="folder of images inside DATA, where it has another name than images"
    )
    add("--masks", metavar="NAME", help="folder of masks inside DATA")
    add("--suffix", default="", metavar="TEXT", help="behind an image's name in its mask's name, as _mask")
    add("--group", metavar="REGEX", help="which images belong together: a patient's, a video's")
    add("--unlabelled", type=IMAGES, metavar="DIR", help="further images, without masks")
    add("--structure", metavar="NAME", help="what is segmented, as polyp or nucleus")
    add("--task", metavar="TEXT", help="the task in a few words, for the model card")
    add("--modality", metavar="NAME", help="what the images are, as endoscopy or microscopy")
    add("--output", type=Path, metavar="DIR", help="the run's folder (one below runs/)")
    add("--overwrite", action="store_true", help="remove the training that the folder holds")
    add(
        "--set",
        dest="set_values",
        nargs="+",
        default=[],
        metavar="ID=VALUE",
        help="anything of the configuration",
    )
    add("--traceback", action="store_true", help="show where in the code an error came from")


def _init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="name of the bundle, such as polyp_difom")
    parser.add_argument(
        "folder", nargs="?", type=Path, default=Path(), metavar="DIR", help="where to copy it to (here)"
    )


def _teachers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder of weight files to look through ($DIFOM_WEIGHTS)"
    )
    parser.add_argument("--json", action="store_true", dest="as_json", help="one JSON list, with paths")


def _evaluate(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--predictions", type=Path, required=True, metavar="DIR", help="grey-level maps of any program")
    add("--masks", type=Path, required=True, metavar="DIR", help="masks of the same names")
    add("--json", dest="json_file", type=Path, metavar="FILE", help="write the means there")
    add("--csv", dest="csv_file", type=Path, metavar="FILE", help="write the scores of every image there")
    add("--resize", action="store_true", help="bring maps to the size of their masks")
    add(
        "--threshold",
        type=Number(0.5, high=1),
        default=0.5,
        help="share of the range from which a pixel counts (0.5)",
    )
    add(
        "--spacing",
        type=Number(0.5, above=True),
        nargs="+",
        metavar="MM",
        help="size of a pixel: one number, or height width",
    )
    add(
        "--tolerance", type=Number(2.0), default=2.0, help="of the surface Dice, in pixels or millimetres (2)"
    )
    add(
        "--mask-threshold",
        type=Number(128.0, low=-float("inf")),
        metavar="LEVEL",
        help="for masks of more than two values",
    )
    add("--structures", nargs="+", default=[], metavar="NAME[=LABEL]", help="labels, or names of subfolders")
    add("--workers", type=Number(4, low=1), metavar="N", help="threads (one per CPU, at most 8)")


def _taps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        type=Existing("no configuration at {}. Give a YAML file with network_def, as in configs/students."),
        nargs="+",
        help="YAML files with network_def, as configs/students/*.yaml",
    )
    parser.add_argument("--depth", type=Number(2), default=2, help="levels of modules to show, 0 for all (2)")
    parser.add_argument(
        "--image_size", type=Number(64, low=1), nargs="+", metavar="N", help="side, or one per axis (64)"
    )
    parser.add_argument(
        "--channels", type=Number(3, low=1), help="channels of the image (those of the first convolution)"
    )
    parser.add_argument(
        "--network", default="network_def", metavar="ID", help="id in the files (network_def)"
    )


def _export(parser: argparse.ArgumentParser) -> None:
    from .apps.export.formats import FORMATS

    add = parser.add_argument
    form = parser.add_mutually_exclusive_group(required=True)
    form.add_argument(
        "--format",
        dest="formats",
        metavar="NAMES",
        help="with commas between: "
        + ", ".join(f"{form.name} ({form.note})" if form.note else form.name for form in FORMATS.values()),
    )
    form.add_argument(
        "--encoder-only",
        action="store_true",
        help="the student's encoder alone, a backbone for other students",
    )
    add(
        "--bundle",
        "--run",
        dest="run",
        type=RUN,
        required=True,
        metavar="RUN",
        help="a finished run, or a bundle; for the encoder a run or its model.pt",
    )
    add(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder to write; for the encoder a .safetensors file",
    )
    add(
        "--images",
        type=IMAGES,
        metavar="DIR",
        help="pictures to compare the formats on (the run's test images)",
    )
    add("--calibration", type=IMAGES, metavar="DIR", help="images that set the ranges of the 8-bit format")
    add(
        "--limit",
        type=Number(16, low=1),
        default=16,
        metavar="N",
        help="pictures to compare the formats on (16)",
    )
    add(
        "--no-pictures",
        dest="pictures",
        action="store_false",
        help="no test images in the model card (private data)",
    )
    add(
        "--train",
        dest="training",
        type=Existing("no overlay at {}. Give a YAML file, such as configs/label/train.yaml."),
        metavar="FILE",
        help="overlay that makes the bundle trainable, for MONAI Label: configs/label/train.yaml",
    )
    add("--module", metavar="PATH", help="where the encoder is in the student (encoder)")
    add(
        "--trust",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="import a network of your own from these modules; without it only known packages build networks",
    )


def _model(parser: argparse.ArgumentParser) -> None:
    from .apps.export.formats import ENGINES

    parser.add_argument(
        "--model",
        type=MODEL,
        required=True,
        metavar="PATH",
        help="a bundle, a run, or a .ts, .onnx or .xml file",
    )
    parser.add_argument("--engine", choices=ENGINES, help="what runs the network (the file's, or torch)")
    parser.add_argument(
        "--trust-torchscript",
        action="store_true",
        help="run TorchScript that this machine did not export: it is a program, and may do what it likes",
    )


def _pixel_limit(parser: argparse.ArgumentParser) -> None:
    text = "refuse larger pictures (50 million pixels)"
    parser.add_argument(
        "--pixel-limit", type=Number(50_000_000, low=1), default=50_000_000, metavar="N", help=text
    )


def _predict(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    _model(parser)
    add(
        "--input",
        dest="given",
        type=Existing("no input at {}: give an image, a video, a volume or a folder of them."),
        required=True,
        metavar="PATH",
        help="image, video, NIfTI or a folder of them",
    )
    add("--output", type=Path, required=True, metavar="DIR", help="folder for masks, overlays and areas.csv")
    add(
        "--overlay",
        action="store_true",
        help="also pictures (of a video, a video) with the contours drawn in",
    )
    add("--threshold", type=Number(0.5, high=1), help="probability from which a pixel counts (the model's)")
    add("--skip-bad", action="store_true", help="report what cannot be read, and go on")
    _pixel_limit(parser)


def _serve(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    _model(parser)
    add(
        "--host",
        default="127.0.0.1",
        help="address to listen at; any other than this machine's own lets others in (127.0.0.1)",
    )
    add("--port", type=Number(7860, high=65535), default=7860, help="0 takes a free one (7860)")
    add(
        "--upload-limit",
        type=Number(20.0, above=True),
        default=20,
        metavar="MB",
        help="refuse larger files (20)",
    )
    _pixel_limit(parser)
    add(
        "--allow-host", nargs="+", default=[], metavar="NAME", help="further names of this machine or a proxy"
    )


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="*", metavar="RUN", help="two folders of runs: A, then B")
    parser.add_argument("--a", nargs="+", metavar="RUN", help="runs of A, one per seed, in place of RUN RUN")
    parser.add_argument("--b", nargs="+", metavar="RUN", help="runs of B, one per seed")
    parser.add_argument(
        "--metric", nargs="+", default=["dice"], metavar="SCORE", help="columns of <set>.csv, or all (dice)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file too")


def _advise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "data", type=DATA, metavar="DATA", help="folder of images and masks, or a datalist.json"
    )
    parser.add_argument("--unlabelled", type=IMAGES, metavar="DIR", help="folder of images without masks")


def _doctor(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("run", type=Path, metavar="RUN", help="a run's folder")
    add("--control", nargs="+", metavar="RUN", help="the same student without teachers (RUN/control)")
    add("--teacher", nargs="+", metavar="RUN", help="runs or evaluations of the teacher itself")
    add("--json", type=Path, metavar="FILE", help="write the findings to a file too")


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="*", metavar="RUN", help="folders of runs; seeds of one recipe share a column"
    )
    parser.add_argument(
        "--baseline", nargs="+", metavar="RUN", help="runs to compare with: the undistilled student"
    )
    parser.add_argument(
        "--teacher", nargs="+", metavar="RUN", help="runs or evaluations of the teacher itself"
    )
    page = Path("report.html")
    parser.add_argument("--output", type=Path, default=page, metavar="FILE", help=f"page to write ({page})")


def _features(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("estimate", "build", "verify", "info"),
        help="cost before it is built; build, resume or repair; compare with the teachers; what is in it",
    )
    parser.add_argument(
        "options",
        nargs=argparse.REMAINDER,
        metavar="--config_file FILE --feature_store DIR [--name value ...]",
        help="as for `monai.bundle run`: configuration files and ids to override; --samples N for verify",
    )


def _autolabel(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--teacher",
        type=Existing("there is no teacher at {}. Give a run, a bundle, a model file or a folder of maps."),
        nargs="+",
        required=True,
        metavar="PATH",
        help="an adapted teacher (a run's adapt folder), a finished run, a bundle, a .ts, .onnx or .xml file, or a folder of "
        "maps of any program",
    )
    add(
        "--images",
        type=IMAGES,
        required=True,
        metavar="DIR",
        help="images to label, with those of subfolders",
    )
    add("--output", type=Path, required=True, metavar="DIR", help="folder for soft masks, table and page")
    add(
        "--views",
        type=Number(8, low=1, high=8),
        default=8,
        metavar="N",
        help="dihedral views that are averaged, 1 to 8 (8)",
    )
    add("--structures", nargs="+", metavar="NAME", help="names of the structures (the teachers')")
    add("--dtype", choices=("uint8", "float16"), default="uint8", help="8-bit PNG, or float16 (uint8)")
    add("--device", help="where networks run: cpu, cuda:0 (a GPU where there is one)")
    add("--workers", type=Number(2, low=1), default=2, metavar="N", help="threads that load images (2)")
    add("--skip-bad", action="store_true", help="report images that cannot be read, and go on")
    add(
        "--next",
        type=Number(20),
        default=0,
        dest="copied",
        metavar="N",
        help="copy N images to label, of every certainty, to OUTPUT/next",
    )
    add(
        "--shown",
        type=Number(20),
        default=12,
        metavar="N",
        help="images on each side of the page, 0 for no page (12)",
    )
    add(
        "--trust",
        nargs="+",
        default=[],
        metavar="MODULE",
        help="build a network of your own from these modules; without it only known packages build networks",
    )


def _label(parser: argparse.ArgumentParser) -> None:
    add, app = parser.add_argument, Path("runs/label/app")
    add(
        "--model",
        type=MODEL,
        required=True,
        metavar="DIR",
        help="an exported bundle (export --format bundle)",
    )
    add(
        "--images",
        type=IMAGES,
        required=True,
        metavar="DIR",
        help="images to label; labels are saved in there",
    )
    add("--app", type=Path, default=app, metavar="DIR", help=f"folder for the server's own files ({app})")
    add("--name", help="name of the model in MONAI Label (that of its folder)")
    add("--host", default="127.0.0.1", help="address to listen at (127.0.0.1: this machine only)")
    add("--port", type=Number(8000, low=1, high=65535), default=8000, help="port (8000)")


# verb -> (what it does, its arguments, "module:function"); it gets the arguments by name and returns
# the exit code
VERBS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], str]] = {
    "train": (
        "train a student, with teachers or alone, from a folder of images with masks",
        _train,
        "monai_difom.apps.train.command:run_train",
    ),
    "compare": (
        "compare two runs, image by image, on the same test sets",
        _compare,
        "monai_difom.apps.runs.compare:run_compare",
    ),
    "demo": ("distil a student on synthetic images, show the gain", _demo, "monai_difom.apps.demo:run_demo"),
    "init": (
        "copy a bundle and all overlays, to change them and to use MONAI's own command",
        _init,
        "monai_difom.apps.bundle.shipped:run_init",
    ),
    "teachers": (
        "list the teachers, their licences and where their weights are",
        _teachers,
        "monai_difom.zoo:list_teachers",
    ),
    "evaluate": (
        "score a folder of prediction maps against a folder of masks",
        _evaluate,
        "monai_difom.apps.scoring.folders:run_evaluate",
    ),
    "taps": (
        "show what a network's modules give, to name taps",
        _taps,
        "monai_difom.apps.show_taps:run_taps",
    ),
    "export": (
        "a finished run as a bundle, TorchScript, ONNX or OpenVINO; or its encoder alone",
        _export,
        "monai_difom.apps.export.command:run_export",
    ),
    "predict": (
        "segment images, a video or volumes with a trained student",
        _predict,
        "monai_difom.apps.predict.predict:run_predict",
    ),
    "serve": (
        "a page in the browser: drop an image, see what the student finds",
        _serve,
        "monai_difom.apps.predict.serve:run_serve",
    ),
    "label": (
        "serve an exported bundle in MONAI Label, to label images and to train on the labels",
        _label,
        "monai_difom.apps.label.server:run_label",
    ),
    "advise": (
        "say which student and teacher to start with, for the images and the machine that are there",
        _advise,
        "monai_difom.apps.advise:run_advise",
    ),
    "doctor": (
        "say what is wrong with a run, or right, and what to do about it",
        _doctor,
        "monai_difom.apps.doctor.command:run_doctor",
    ),
    "report": ("write one page about one run or several", _report, "monai_difom.apps.report:run_report"),
    "autolabel": (
        "soft masks of any images by adapted teachers or any other network, and what to label next",
        _autolabel,
        "monai_difom.apps.autolabel.command:run_autolabel",
    ),
    "features": (
        "the feature store: run the teachers once, train many times",
        _features,
        "monai_difom.apps.features.command:run_features",
    ),
}


def make_parser(verb: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of all verbs.

    Args:
        verb: the only one whose arguments are added, for a quick start; None adds those of all.
    """
    parser = Parser(
        prog="python -m monai_difom",
        description="Distil vision foundation models into light segmentation networks.",
        epilog="Training is also a bundle command: python -m monai.bundle run training; see the verb init.",
    )
    parser.add_argument("--version", action="version", version=f"monai_difom {__version__}")
    kind: Any = Parser if verb is None else partial(_asked_for, verb)
    verbs = parser.add_subparsers(dest="verb", metavar="verb", required=True, parser_class=kind)
    for name, (summary, add_arguments, target) in VERBS.items():
        child = verbs.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        if verb in (None, name):
            add_arguments(child)
            if name != "train":  # which has it for its own
                child.add_argument(
                    "--traceback", action="store_true", help="show where in the code an error came from"
                )
            child.set_defaults(target=target)
    return parser


def _asked_for(verb: str, prog: str, **more: Any) -> Any:
    """The parser of a verb that is asked for; of another, which is listed only, nothing."""
    return Parser(prog=prog, **more) if prog.endswith(f" {verb}") else None


def _absent(verb: str, options: dict[str, object]) -> str | None:
    """What to say of the first path that is not there."""
    parser = argparse.ArgumentParser(add_help=False)
    VERBS[verb][1](parser)
    for action in parser._actions:
        given = options[action.dest]
        for path in given if isinstance(given, list) else [given]:
            if (
                isinstance(action.type, Existing)
                and isinstance(path, Path)
                and not path.expanduser().exists()
            ):
                return action.type.problem.format(path)
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: command line without the program; that of the process when None.

    Returns:
        The exit code: 0; 2 for a path that is not there; 130 after Ctrl-C; and the verb's own.
    """
    words = sys.argv[1:] if arguments is None else arguments
    first = next((word for word in words if not word.startswith("-")), "")
    options = vars(make_parser(first).parse_args(words))
    verb, target = options.pop("verb"), options.pop("target")
    problem = _absent(verb, options)
    if problem is not None:
        print(f"{verb}: {problem}", file=sys.stderr)
        return 2
    module, name = target.split(":")
    shows = options.pop("traceback", False) if verb != "train" else options["traceback"]
    try:
        return int(getattr(import_module(module), name)(**options) or 0)
    except (ValueError, OSError) as error:
        if shows:
            raise
        print(f"{verb}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        # a verb that can say what is kept says it in the exception
        print(f"\nInterrupted: {verb} stopped. {interrupt}".rstrip(), file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
