"""``python -m monai_difom <verb>``: what a bundle command cannot say in one line.

Nothing heavy is imported until a verb runs, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from . import __version__


def _demo(parser: argparse.ArgumentParser) -> None:
    folder = Path("runs/demo")
    parser.add_argument(
        "--output", type=Path, default=folder, metavar="DIR", help=f"where to write ({folder})"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of images, first weights and training (0)")
    parser.add_argument("--quick", action="store_true", help="tiny, in seconds, to see that everything runs")


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


# verb -> (what it does, its arguments, "module:function"); it gets the arguments by name and returns
# the exit code
VERBS: dict[str, tuple[str, Callable[[argparse.ArgumentParser], None], str]] = {
    "demo": ("distil a student on synthetic images, show the gain", _demo, "monai_difom.apps.demo:run_demo"),
    "features": (
        "the feature store: run the teachers once, train many times",
        _features,
        "monai_difom.apps.features_command:run_features",
    ),
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    parser = argparse.ArgumentParser(
        prog="python -m monai_difom",
        description="Distil vision foundation models into light segmentation networks.",
        epilog="Training is a bundle command: python -m monai.bundle run training; see the head of "
        "bundles/polyp_difom/configs/train.yaml.",
    )
    parser.add_argument("--version", action="version", version=f"monai_difom {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="verb", required=True)
    for name, (summary, add_arguments, target) in VERBS.items():
        child = verbs.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        add_arguments(child)
        child.set_defaults(target=target)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: command line without the program; that of the process when None.

    Returns:
        The exit code: 0, or 130 after Ctrl-C.
    """
    options = vars(make_parser().parse_args(arguments))
    verb, target = options.pop("verb"), options.pop("target")
    module, name = target.split(":")
    try:
        return int(getattr(import_module(module), name)(**options) or 0)
    except KeyboardInterrupt as interrupt:
        # a verb that can say what is kept says it in the exception
        print(f"\nInterrupted: {verb} stopped. {interrupt}".rstrip(), file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
