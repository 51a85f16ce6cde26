"""Outlines follow their maps, and the pictures are the worst, median and best ones."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from monai_difom.apps.runs.examples import load_examples, picture
from monai_difom.apps.runs.keep_examples import choose, outline, save_examples
from monai_difom.data import evaluation_chain, make_polyps, test_sets


def test_worst_median_and_best_are_chosen_once_each() -> None:
    scores = [0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6]
    kinds = choose(scores, {"worst": 2, "median": 1, "best": 1})
    assert kinds == {1: "worst", 5: "worst", 2: "median", 0: "best"}
    assert choose([0.5, 0.1]) == {1: "worst", 0: "worst"}
    assert choose([]) == {}


def test_the_outline_of_a_square_is_its_border() -> None:
    area = np.zeros((20, 30), bool)
    area[5:15, 10:20] = True
    numbers = outline(area).strip("MZ").replace("L", " ").split()
    x, y = np.array(numbers[::2], float), np.array(numbers[1::2], float)
    assert (x.min(), x.max(), y.min(), y.max()) == (10, 20, 5, 15)


def test_an_area_at_the_edge_is_closed_and_an_empty_one_has_no_outline() -> None:
    full = np.ones((8, 8), bool)
    assert outline(full).endswith("Z")
    assert outline(~full) == ""
    ring = full.copy()
    ring[3:5, 3:5] = False
    assert outline(ring).count("M") == 2


class _Bright(torch.nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean(1, keepdim=True) * 10


def test_every_image_has_outlines_and_few_have_a_picture(tmp_path: Path) -> None:
    make_polyps(tmp_path / "data", train=2, test=12, size=64)
    sets = test_sets(tmp_path / "data")
    network = _Bright().train()
    save_examples(network, sets, evaluation_chain(32), tmp_path)
    assert network.training
    found = load_examples(tmp_path)["synthetic"]
    assert len(found) == 12
    assert all(e["truth"] and e["height"] == 64 and 0 < e["foreground"] < 64 * 64 for e in found.values())
    kinds = [e["kind"] for e in found.values() if "jpeg" in e]
    assert sorted(kinds) == ["best"] * 2 + ["median"] * 2 + ["worst"] * 4
    worst = min(e["dice"] for e in found.values())
    assert any(e["dice"] == worst and e.get("kind") == "worst" for e in found.values())


def test_a_large_photograph_becomes_a_small_jpeg(tmp_path: Path) -> None:
    Image.new("RGBA", (1200, 800)).save(tmp_path / "large.png")
    with Image.open(io.BytesIO(base64.b64decode(base64.b64encode(picture(tmp_path / "large.png"))))) as small:
        assert small.size == (480, 320)
        assert small.format == "JPEG"
