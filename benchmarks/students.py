"""What every student of configs/students costs: parameters, GMACs, and milliseconds in PyTorch, ONNX Runtime and OpenVINO.

    python benchmarks/students.py                 # all students at 352x352 on 2 threads, minutes
    python benchmarks/students.py --quick         # a few students, few repeats: under a minute
    python benchmarks/students.py --write         # put the table into docs/students.md between its markers

The column of Dice comes from `benchmarks/polyp_students.json`, which `gain.py --report` writes.

Also measured, side by side and interleaved:

- inference_ratio: the exported student of a distillation against the plain network of the same shape that was never distilled
  (same graph, same parameters: nothing of the distillation is left);
- unetpp_over_monai, unetpp_over_smp: DifomUNetPlusPlus against MONAI's BasicUNetPlusPlus and segmentation_models_pytorch's
  UnetPlusPlus decoder, in PyTorch, at equal widths, norm and activation. smp skips full resolution, so its grid is fed with the
  same encoder from full resolution on and its last upsampling is left out: the same 15 nodes are computed;
- runtime_speedup: the better one of ONNX Runtime and OpenVINO against PyTorch, median over students.

OpenVINO runs in float32. Times are medians of interleaved runs. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import onnx
import onnxruntime
import openvino
import torch
import torch.nn.functional as F
from monai.bundle import ConfigParser
from monai.networks.nets import BasicUNetPlusPlus
from segmentation_models_pytorch.decoders.unetplusplus.decoder import UnetPlusPlusDecoder
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from monai_difom.apps.deployed.openers import openvino_core
from monai_difom.engines import Distiller
from monai_difom.networks.nets import DifomUNet, DifomUNetPlusPlus, reparameterize
from monai_difom.networks.student import network_state
from monai_difom.networks.teachers import NetworkTeacher
from monai_difom.targets import DistillationTerm, TargetPipeline

ROOT = Path(__file__).resolve().parents[1]
STUDENTS = [  # of images; those of volumes are the same networks
    file for file in sorted((ROOT / "configs" / "students").glob("*.yaml")) if not file.stem.endswith("_3d")
]
QUICK = ("light_mobilenetv4", "unet", "vit_tiny")
DICE = ROOT / "benchmarks" / "polyp_students.json"
BEGIN, END = "<!-- students -->", "<!-- /students -->"
Run = Callable[[], Any]


def rounds(runs: Mapping[str, Run], repeats: int) -> dict[str, list[float]]:
    """Return the milliseconds of every run, round by round; the first of them only warms up.

    Runs take turns, and every second round goes backwards, so that a busy machine slows all alike.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(-1, repeats):
        for name in list(runs)[:: 1 if turn % 2 else -1]:
            begun = time.perf_counter()
            runs[name]()
            if turn >= 0:
                times[name].append(1e3 * (time.perf_counter() - begun))
    return times


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of two runs, round by round."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def build(overlay: Path, size: int) -> nn.Module:
    """Build the student of an overlay for images of this side, in eval mode, folded where its encoder can be."""
    parser = ConfigParser()
    parser.read_config(str(overlay))
    parser["image_size"] = size
    return reparameterize(parser.get_parsed_content("network_def"))


def gmacs(network: nn.Module, image: torch.Tensor) -> float:
    """Return billions of multiply-accumulates of one image."""
    with FlopCounterMode(display=False) as counter:
        network(image)
    return counter.get_total_flops() / 2e9


def export(network: nn.Module, image: torch.Tensor, file: Path) -> Path:
    """Write the network as ONNX and return the file."""
    torch.onnx.export(network, (image,), str(file), dynamo=True, verbose=False)
    return file


def runtimes(file: Path, image: torch.Tensor, threads: int) -> dict[str, Run]:
    """Return the ONNX file in ONNX Runtime and in OpenVINO, ready to run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # threads that wait by spinning would slow down what is timed next
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    model = openvino_core().compile_model(openvino.convert_model(str(file)), "CPU", settings)
    name, array = session.get_inputs()[0].name, image.numpy()
    return {"onnxruntime": lambda: session.run(None, {name: array})[0], "openvino": lambda: model(array)[0]}


def student_row(overlay: Path, size: int, threads: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Measure one student."""
    network, image = build(overlay, size), torch.rand(1, 3, size, size)
    runs = {"pytorch": partial(network, image)}
    runs.update(runtimes(export(network, image, folder / f"{overlay.stem}.onnx"), image, threads))
    expected = network(image)
    difference = max(float((torch.as_tensor(runs[n]()) - expected).abs().max()) for n in list(runs)[1:])
    row = {
        "student": overlay.stem,
        "parameters": sum(p.numel() for p in network.parameters()),
        "gmacs": gmacs(network, image),
        "difference": difference,
    }
    return {**row, **{name: median(times) for name, times in rounds(runs, repeats).items()}}


def distilled_and_plain() -> tuple[nn.Module, nn.Module]:
    """Return the student that comes out of a distillation, and a network of the same shape that never saw one.

    The first is trained for a step with side latents and heads, then saved and loaded as `model.pt` is.
    """
    torch.manual_seed(0)
    teacher = NetworkTeacher(
        nn.Sequential(nn.Conv2d(3, 8, 3, stride=4, padding=1)), {"map": "0"}, mean=[0.5] * 3, std=[0.5] * 3
    )
    terms = [DistillationTerm(tap, tap=tap) for tap in ("L2", "bottleneck", "stride8")]
    targets = TargetPipeline({"teacher": teacher}, terms, fuse_channels=4, fit_images=2)
    targets.fit([torch.rand(2, 3, 64, 64)])
    distiller = Distiller(DifomUNet(latents="side"), targets)
    optimizer = torch.optim.SGD(distiller.parameters(), lr=1e-3)
    logits, maps = distiller(torch.rand(2, 3, 64, 64))
    wanted = targets(torch.rand(2, 3, 64, 64), {name: found.shape[2:] for name, found in maps.items()})
    loss = logits.square().mean() + sum(F.mse_loss(maps[name], wanted[name]) for name in maps)
    loss.backward()
    optimizer.step()
    distilled = DifomUNet()
    distilled.load_state_dict(network_state(distiller.student), strict=True)
    plain = DifomUNet()
    plain(torch.rand(2, 3, 64, 64))  # statistics of its own: equal zeros would be merged by the export
    return distilled.eval(), plain.eval()


def inference_ratio(size: int, threads: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Compare the exported distilled student with the plain network: graphs, parameters and time."""
    image = torch.rand(1, 3, size, size)
    names = ("distilled", "plain")
    files = [
        export(network, image, folder / f"{name}.onnx")
        for name, network in zip(names, distilled_and_plain(), strict=True)
    ]
    graphs = [onnx.load(file).graph for file in files]
    operators = [[node.op_type for node in graph.node] for graph in graphs]
    shapes = [[(value.name, tuple(value.dims)) for value in graph.initializer] for graph in graphs]
    runs = {
        name: runtimes(file, image, threads)["onnxruntime"] for name, file in zip(names, files, strict=True)
    }
    times = rounds(runs, repeats)
    return {
        "inference_ratio": ratio(times["distilled"], times["plain"]),
        "same_graph": operators[0] == operators[1] and shapes[0] == shapes[1],
    }


class SmpUNetPlusPlus(nn.Module):
    """segmentation_models_pytorch's nested decoder on the encoder of `DifomUNetPlusPlus`, from full resolution on."""

    def __init__(self, features: Sequence[int]) -> None:
        super().__init__()
        ours = DifomUNetPlusPlus(features=features)
        self.encoder, self.pool, self.head = ours.encoder, ours.pool, ours.head
        self.decoder = UnetPlusPlusDecoder((3, *features), (*features[-2::-1], features[0]))
        self.decoder.blocks[f"x_0_{len(features) - 1}"] = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits at the size of the image."""
        maps = [x]
        for i, block in enumerate(self.encoder):
            x = block(self.pool(x) if i else x)
            maps.append(x)
        return self.head(self.decoder(maps))


def nested_unets(size: int, repeats: int) -> dict[str, Any]:
    """Compare `DifomUNetPlusPlus` with those of MONAI and segmentation_models_pytorch in PyTorch."""
    widths = (32, 64, 128, 256, 512)
    relu = ("relu", {"inplace": True})
    networks = {
        "ours": DifomUNetPlusPlus(features=widths),
        "monai": BasicUNetPlusPlus(2, 3, 1, features=(*widths, widths[0]), act=relu, norm="batch"),
        "smp": SmpUNetPlusPlus(widths),
    }
    image = torch.rand(1, 3, size, size)
    runs = {name: partial(network.eval(), image) for name, network in networks.items()}
    found: dict[str, Any] = {f"unetpp_gmacs_{name}": gmacs(networks[name], image) for name in networks}
    times = rounds(runs, repeats)
    for name in ("monai", "smp"):
        found[f"unetpp_over_{name}"] = ratio(times["ours"], times[name])
    return found


def dice_text(student: str, test_set: str = "Kvasir") -> str:
    """Return the Dice of a student alone and with soft masks, of the same seeds, as `gain.py --report` keeps it; else empty."""
    taught = json.loads(DICE.read_text(encoding="utf-8"))[test_set].get(f"{student}: soft masks")
    return f"{mean(taught['dice']) - taught['gain']:.3f} / {mean(taught['dice']):.3f}" if taught else ""


def table(rows: Sequence[Mapping[str, Any]], size: int, threads: int) -> str:
    """Return the rows as a Markdown table, cheapest first."""
    lines = [
        f"Milliseconds per image of {size}x{size}, batch 1, float32, {threads} CPU threads. Dice, where measured: alone / with",
        "soft masks, the same steps for all, at 128 px with 100 labels of Kvasir ([gain](../benchmarks/gain.md#other-students)):",
        "",
        "| student | parameters (M) | GMACs | PyTorch | ONNX Runtime | OpenVINO | Dice |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: row["gmacs"]):
        cells = [f"`{row['student']}`", f"{row['parameters'] / 1e6:.1f}", f"{row['gmacs']:.1f}"]
        cells += [f"{row[name]:.0f}" for name in ("pytorch", "onnxruntime", "openvino")]
        lines.append("| " + " | ".join([*cells, dice_text(row["student"])]) + " |")
    return "\n".join(lines)


def write_table(text: str, page: Path) -> None:
    """Put the table between the markers of a page."""
    head, rest = page.read_text().split(BEGIN)
    page.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


@torch.no_grad()
def measure(options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run all measurements."""
    size, repeats = options.image_size, options.repeats
    names = options.students or (QUICK if options.quick else [file.stem for file in STUDENTS])
    found: dict[str, Any] = {"image_size": size, "threads": options.threads}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        with torch.enable_grad():  # a step of distillation is made in it
            found.update(inference_ratio(size, options.threads, max(45, 3 * repeats), Path(folder)))
        found.update(nested_unets(size, repeats))
        for overlay in STUDENTS:
            if overlay.stem in names:
                rows.append(student_row(overlay, size, options.threads, repeats, Path(folder)))
                print(
                    {key: round(v, 4) if isinstance(v, float) else v for key, v in rows[-1].items()},
                    flush=True,
                )
    found["runtime_speedup"] = median(
        row["pytorch"] / min(row["onnxruntime"], row["openvino"]) for row in rows
    )
    return rows, found


def main() -> None:
    """Measure, print the table, and write it where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few students, few repeats")
    parser.add_argument("--students", nargs="+", choices=[file.stem for file in STUDENTS], help="these alone")
    parser.add_argument("--image_size", type=int, default=352)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, help="timed runs each (15; quick 3)")
    parser.add_argument("--write", action="store_true", help="write the table into docs/students.md")
    options = parser.parse_args()
    options.repeats = options.repeats or (3 if options.quick else 15)
    torch.set_num_threads(options.threads)
    rows, found = measure(options)
    text = table(rows, options.image_size, options.threads)
    print(text)
    if options.write:
        write_table(text, ROOT / "docs" / "students.md")
    print(
        json.dumps(
            {
                **{key: round(v, 3) if isinstance(v, float) else v for key, v in found.items()},
                "students": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
