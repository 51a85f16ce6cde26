"""What a command takes beside what it must: the libraries that it needs, and the work itself.

Both sides are processor time of whole processes, the interpreter's own start included. The other side of a command that works
imports the libraries and does the same work by a plain call, in one process: what is left is what the command adds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from speed_rows.turns import commands_in_turn, ratio

MAPS = 62


def start_help(setting: Any) -> dict[str, Any]:
    """``--help`` against the modules of the standard library that a command line needs."""
    return _started("start_help", ["--help"], "import argparse, importlib, pathlib", setting)


def start_wrong_path(setting: Any) -> dict[str, Any]:
    """The training of a data set that is not there."""
    return _started("start_wrong_path", ["train", "nowhere"], "import argparse, importlib, pathlib", setting)


def start_evaluate(setting: Any) -> dict[str, Any]:
    """The scores of 62 maps, printed and written, against the same scores of the same files by a plain loop."""
    with tempfile.TemporaryDirectory() as folder:
        for kind, place in (
            ("maps", setting.data / "prediction_maps" / "PraNet_official" / "CVC-ClinicDB"),
            ("masks", setting.data / "polyp" / "TestDataset" / "CVC-ClinicDB" / "masks"),
        ):
            (Path(folder) / kind).mkdir()
            for file in sorted(place.iterdir())[:MAPS]:
                (Path(folder) / kind / file.name).symlink_to(file.resolve())
        maps, masks = f"{folder}/maps", f"{folder}/masks"
        needed = f"""
import cv2, numpy, scipy.spatial, PIL.Image, tqdm
from pathlib import Path
from monai_difom.data.maps import read_map, read_mask
from monai_difom.metrics import map_scores, mean_scores
rows = [map_scores(read_map(Path({maps!r}, m.name))[0], read_mask(m)) for m in sorted(Path({masks!r}).iterdir())]
mean_scores(rows)
"""
        words = [
            "evaluate",
            "--predictions",
            maps,
            "--masks",
            masks,
            "--workers",
            "1",
            "--json",
            f"{folder}/means.json",
        ]
        found = _started("start_evaluate", words, needed, setting)
        sides = {
            "command": ["-m", "monai_difom", *words],
            "libraries": ["-c", "import numpy, scipy.ndimage, PIL.Image"],
        }
        seconds = commands_in_turn(sides, setting.rounds)
    beyond = [a - b for a, b in zip(seconds["command"], seconds["libraries"], strict=True)]
    # issue 16: under 3 s more than numpy, scipy and Pillow need to import
    return {**found, "seconds_beyond_numpy_scipy_pillow": round(sorted(beyond)[len(beyond) // 2], 2)}


def start_predict(setting: Any) -> dict[str, Any]:
    """The mask of one image by ONNX, against its libraries, opening the file and one pass of it."""
    with tempfile.TemporaryDirectory() as folder:
        model, picture = _exported(Path(folder)), Path(folder) / "picture.png"
        needed = f"""
import numpy, onnx, onnxruntime, PIL.Image, scipy.ndimage, torch, tqdm
onnx.load({str(model)!r}, load_external_data=False)
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = torch.get_num_threads()
session = onnxruntime.InferenceSession({str(model)!r}, options, providers=["CPUExecutionProvider"])
image = numpy.asarray(PIL.Image.open({str(picture)!r}).convert("RGB").resize((352, 352)), numpy.float32)
for _ in range(2):
    session.run(None, {{"image": image.transpose(2, 0, 1)[None]}})
"""
        words = ["predict", "--model", str(model), "--input", str(picture), "--output", f"{folder}/out"]
        return _started("start_predict", words, needed, setting)


def _exported(folder: Path) -> Path:
    """A small student as ONNX, and a picture beside it."""
    import json

    import numpy as np
    import onnx
    import torch
    from PIL import Image

    from monai_difom.apps.deployed.facts import DEPLOYMENT, Deployment
    from monai_difom.networks.nets import DifomUNet

    network = DifomUNet(2, 3, 1, (8, 16, 16, 32, 32, 8)).eval()
    file = folder / "student.onnx"
    torch.onnx.export(
        network,
        (torch.zeros(1, 3, 352, 352),),
        str(file),
        input_names=["image"],
        dynamo=False,
        opset_version=17,
    )
    model = onnx.load(str(file))
    entry = model.metadata_props.add()
    entry.key, entry.value = DEPLOYMENT, json.dumps(Deployment((352, 352)).as_dict())
    onnx.save(model, str(file))
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)).save(
        folder / "picture.png"
    )
    return file


def _started(key: str, words: list[str], needed: str, setting: Any) -> dict[str, Any]:
    """The ratio of a command's processor time to that of what it needs."""
    sides = {"command": ["-m", "monai_difom", *words], "needed": ["-c", needed]}
    seconds = commands_in_turn(sides, setting.rounds)
    middle = {name: round(sorted(taken)[len(taken) // 2], 3) for name, taken in seconds.items()}
    return {key: ratio(seconds, "command", "needed"), "processor_seconds": middle}
