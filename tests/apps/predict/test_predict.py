"""Masks of pictures, videos and volumes: right, streamed, whole; and what is bad is refused with its name."""

from __future__ import annotations

import csv
import os
import pickle
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter, label

from monai_difom.__main__ import main
from monai_difom.apps.deployed.facts import Deployment
from monai_difom.apps.deployed.runners import open_runner
from monai_difom.apps.predict import predict as module
from monai_difom.apps.predict.contours import COLORS, draw_contours
from monai_difom.apps.predict.predict import COLUMNS, inside, part_sizes, predict
from monai_difom.apps.predict.sources import BadPictureError, find_sources, frames, read_picture
from tests.apps.deployed.students import blob, write_pictures
from tests.browser import open_browser
from tests.test_start import started

pytestmark = pytest.mark.xdist_group("exported")


def table(output: Path) -> list[dict[str, str]]:
    with open(output / "areas.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def write_video(file: Path, number: int, height: int = 48, width: int = 64) -> Path:
    cv2 = pytest.importorskip("cv2")
    file.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 10, (width, height))
    pictures = [cv2.cvtColor(blob(i, height, width)[0], cv2.COLOR_RGB2BGR) for i in range(min(number, 8))]
    for i in range(number):
        writer.write(pictures[i % len(pictures)])
    writer.release()
    return file


def test_a_folder_gives_a_mask_an_overlay_and_a_row_for_every_picture(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pictures(tmp_path / "in", 2)
    write_pictures(tmp_path / "in" / "more", 1, 30, 50)
    words = ["predict", "--model", str(finished), "--input", str(tmp_path / "in"), "--overlay"]
    assert main([*words, "--output", str(tmp_path / "out")]) == 0
    assert "3 masks and areas.csv" in capsys.readouterr().out
    files = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    names = ("0.png", "1.png", "more/0.png")
    assert files == {"areas.csv", *(f"{kind}/{name}" for kind in ("masks", "overlays") for name in names)}
    runner = open_runner(finished)
    rows = table(tmp_path / "out")
    assert tuple(rows[0]) == COLUMNS
    for name, row in zip(names, rows, strict=True):
        mask = np.asarray(Image.open(tmp_path / "out" / "masks" / name))
        picture = read_picture(tmp_path / "in" / name)
        assert (mask.dtype, mask.shape, set(np.unique(mask))) == (np.uint8, picture.shape[:2], {0, 255})
        assert ((mask > 0) == runner.facts.masks(runner.probabilities(picture))[0]).all()
        truth = blob(int(name[-5]), *mask.shape)[1]
        assert 2 * (truth & (mask > 0)).sum() / (truth.sum() + (mask > 0).sum()) > 0.6
        assert int(row["pixels"]) == (mask > 0).sum() >= int(row["largest"]) > 0
        assert float(row["share"]) == pytest.approx((mask > 0).mean(), abs=1e-6)
        assert row["structure"] == "polyp"


@pytest.mark.parametrize("engine", ["torch", "onnx", "openvino"])
def test_every_engine_finds_the_same(engine: str, exported: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 2)
    predict(exported, tmp_path / "in", tmp_path / "out", engine=engine)
    predict(exported / "models" / "model.ts", tmp_path / "in", tmp_path / "reference")
    for name in ("0.png", "1.png"):
        found, expected = (
            np.asarray(Image.open(tmp_path / f / "masks" / name)) for f in ("out", "reference")
        )
        assert (found == expected).mean() > 0.999


def test_a_video_gives_a_mask_a_frame_and_an_overlay_video(finished: Path, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    video = write_video(tmp_path / "walk.avi", 12)
    found = predict(finished, video, tmp_path / "out", overlay=True)
    assert found["frames"] == 12
    masks = sorted((tmp_path / "out" / "masks" / "walk").iterdir())
    assert [mask.name for mask in masks] == [f"{i:06}.png" for i in range(12)]
    assert Image.open(masks[0]).size == (64, 48)
    assert [row["frame"] for row in table(tmp_path / "out")] == [str(i) for i in range(12)]
    opened = cv2.VideoCapture(str(tmp_path / "out" / "overlays" / "walk.mp4"))
    assert opened.get(cv2.CAP_PROP_FRAME_COUNT) == 12
    assert opened.get(cv2.CAP_PROP_FPS) == 10


@pytest.mark.parametrize("size", [(48, 64), (47, 63)])
def test_a_browser_plays_an_overlay_video(size: tuple[int, int], tmp_path: Path) -> None:
    pytest.importorskip("av")
    from monai_difom.apps.predict.video import video_writer

    with video_writer(tmp_path / "walk.mp4", 10) as add:
        for number in range(12):
            add(np.full((*size, 3), 20 * number, np.uint8))
    head = (tmp_path / "walk.mp4").read_bytes()
    assert head.index(b"moov") < head.index(b"mdat")  # it plays while it loads
    (tmp_path / "page.html").write_text('<video src="walk.mp4" muted></video>')
    for browser in open_browser(tmp_path / "profile"):
        browser.get((tmp_path / "page.html").as_uri())
        played = """const v = document.querySelector('video'), done = arguments[arguments.length - 1];
            v.onended = () => done([v.videoWidth, v.videoHeight, Math.round(10 * v.duration), 'played']);
            v.onerror = () => done(v.error.message); v.play().catch(e => done(String(e)));"""
        even = [side + side % 2 for side in size[::-1]]
        assert browser.execute_async_script(played) == [*even, 12, "played"]


def test_without_a_picture_no_video_is_written_and_without_pyav_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monai_difom.apps.predict.video import video_writer

    with video_writer(tmp_path / "none.mp4", 10):
        pass
    assert not (tmp_path / "none.mp4").exists()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r"monai-difom\[video\]"), video_writer(tmp_path / "a.mp4", 10):
        pass


@pytest.mark.parametrize("level", [-9.0, 0.0, 0.4, 9.0])
def test_the_parts_of_a_mask_are_those_of_the_whole_picture(level: float) -> None:
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(40, 60)), 1)
    mask = np.zeros((50, 80), bool)
    mask[3:43, 11:71] = noise > -level / 2
    parts, _ = label(mask, np.ones((3, 3)))
    assert sorted(part_sizes(mask)) == sorted(np.bincount(parts.flat)[1:])


def test_a_contour_is_seen_on_a_ground_of_its_own_colour() -> None:
    mask = np.zeros((1, 40, 40), bool)
    mask[0, 10:30, 10:30] = True
    ground = np.broadcast_to(np.array(COLORS[0], np.uint8), (40, 40, 3))
    drawn = draw_contours(ground, mask, width=2)
    assert (drawn[9, 10:30] == 0).all()  # the rim outside
    assert (drawn[5] == ground[5]).all()


def test_the_memory_does_not_grow_with_the_length_of_a_video(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = Path("/proc/self/statm")
    if not status.is_file():
        pytest.skip("the memory of a process is read from /proc")
    # a frame is 0.36 MB: 160 of them, if they were kept, would be 58 MB
    video = write_video(tmp_path / "long.avi", 160, 300, 400)
    resident: list[float] = []
    write = module._write

    def watched(*arguments: Any) -> None:
        resident.append(int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6)
        write(*arguments)

    monkeypatch.setattr(module, "_write", watched)
    predict(finished, video, tmp_path / "out", overlay=True)
    assert len(resident) == 160
    assert max(resident[20:]) - resident[20] < 20  # megabytes


def test_a_volume_is_segmented_by_slices_and_keeps_its_place(finished: Path, tmp_path: Path) -> None:
    stack = np.stack([blob(i)[0].mean(-1).T for i in range(3)], -1).astype(np.float32)
    affine = np.diag([0.5, 0.5, 3, 1])
    nibabel.save(nibabel.Nifti1Image(stack, affine), str(tmp_path / "scan.nii.gz"))
    predict(finished, tmp_path / "scan.nii.gz", tmp_path / "out")
    mask = nibabel.load(str(tmp_path / "out" / "masks" / "scan.nii.gz"))
    assert mask.shape == (60, 40, 3)
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, affine)
    areas = [int(row["pixels"]) for row in table(tmp_path / "out")]
    assert [int(np.asarray(mask.dataobj)[..., i].sum()) for i in range(3)] == areas
    (source,) = find_sources(tmp_path / "scan.nii.gz")
    first = next(frames(source, 3)).picture
    assert first is not None
    assert first.shape == (40, 60, 3)


def test_a_broken_picture_stops_or_is_skipped_as_asked(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_pictures(tmp_path / "in", 3)
    paths[1].write_bytes(paths[1].read_bytes()[:300])
    words = ["predict", "--model", str(finished), "--input", str(tmp_path / "in"), "--output"]
    assert main([*words, str(tmp_path / "a")]) == 2
    assert "1.png cannot be read as an image" in (message := capsys.readouterr().err)
    assert "--skip-bad" in message
    assert [p.name for p in (tmp_path / "a").rglob("*") if p.is_file()] == ["0.png"]  # whole, and no table
    assert main([*words, str(tmp_path / "b"), "--skip-bad"]) == 1
    assert "skipped: " in capsys.readouterr().err
    assert [Path(row["file"]).name for row in table(tmp_path / "b") if not row["problem"]] == [
        "0.png",
        "2.png",
    ]


def test_a_video_that_ends_early_is_named_with_its_frames(finished: Path, tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.avi", 40)
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(BadPictureError, match=r"cut.avi ends early: \d+ of 40 frames|cut off"):
        predict(finished, cut, tmp_path / "a", overlay=True)
    assert not [p for p in (tmp_path / "a").rglob("*") if p.is_file() and "masks" not in p.parts]
    found = predict(finished, cut, tmp_path / "b", skip_bad=True)
    assert len(found["skipped"]) == 1
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(BadPictureError, match="cannot be opened as a video"):
        predict(finished, tmp_path / "text.mp4", tmp_path / "c")
    assert not [p for p in (tmp_path / "c").rglob("*") if p.is_file()]


def test_an_image_bomb_is_refused_before_it_is_unpacked(finished: Path, tmp_path: Path) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            len(content).to_bytes(4, "big") + name + content + zlib.crc32(name + content).to_bytes(4, "big")
        )

    head = (60000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    bomb = tmp_path / "bomb.png"
    bomb.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))))
    with pytest.raises(
        BadPictureError, match=r"60000 x 60000 pixels, above the limit of 50,000,000.*--pixel-limit"
    ):
        predict(finished, bomb, tmp_path / "out")
    (small,) = write_pictures(tmp_path / "in", 1)
    with pytest.raises(BadPictureError, match="60 x 40 pixels, above the limit of 100"):
        predict(finished, small, tmp_path / "out", pixel_limit=100)
    write_video(tmp_path / "v.avi", 2)
    with pytest.raises(BadPictureError, match="frames of 64 x 48 are above the limit"):
        predict(finished, tmp_path / "v.avi", tmp_path / "out", pixel_limit=100)


def test_a_structure_or_a_link_that_leads_out_of_the_folder_is_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "in", 1)
    runner = open_runner(finished)
    facts = Deployment((32, 32), structures=("polyp", "../../evil"))
    monkeypatch.setattr(module, "open_runner", lambda *_: replace(runner, facts=facts))
    with pytest.raises(ValueError, match=r"'\.\./\.\./evil', a structure of the model, leads out"):
        predict(finished, tmp_path / "in", tmp_path / "out")
    monkeypatch.undo()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "masks").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="leads out of the output folder"):
        predict(finished, tmp_path / "in", tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    for names in (("..", "a"), ("/etc/passwd",), ("a", "..", "..", "b")):
        with pytest.raises(ValueError, match="leads out"):
            inside(tmp_path, *names)


def test_several_structures_have_a_folder_each(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = open_runner(finished)
    twice = replace(
        runner,
        facts=replace(runner.facts, structures=("disc", "cup")),
        logits=lambda image: np.repeat(runner.logits(image), 2, 1),
    )
    monkeypatch.setattr(module, "open_runner", lambda *_: twice)
    write_pictures(tmp_path / "in", 1)
    predict(finished, tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out/masks/disc/0.png").is_file()
    assert (tmp_path / "out/masks/cup/0.png").is_file()
    assert [row["structure"] for row in table(tmp_path / "out")] == ["disc", "cup"]


class _Evil:
    def __reduce__(self) -> tuple:
        return (os.system, ("touch evil",))


def test_a_model_with_code_in_it_is_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundle = tmp_path / "bundle"
    (bundle / "models").mkdir(parents=True)
    (bundle / "configs").symlink_to(finished / "bundle" / "configs")
    write_pictures(tmp_path / "in", 1)
    torch.save({"a": _Evil()}, bundle / "models" / "model.pt")
    with pytest.raises(ValueError, match="could run code"):
        predict(bundle, tmp_path / "in", tmp_path / "out")
    torch.save({"a": _Evil()}, bundle / "models" / "model.ts")
    with pytest.raises(ValueError, match="no TorchScript file; a pickled network is refused"):
        predict(bundle / "models" / "model.ts", tmp_path / "in", tmp_path / "out")
    (bundle / "models" / "raw.ts").write_bytes(pickle.dumps(_Evil()))
    with pytest.raises(ValueError, match="no TorchScript file"):
        predict(bundle / "models" / "raw.ts", tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path / "out").exists()


def test_a_file_that_its_own_runtime_runs_needs_no_monai(exported: Path, tmp_path: Path) -> None:
    picture = write_pictures(tmp_path / "in", 1)[0]
    words = ["predict", "--model", str(exported), "--engine", "onnx", "--input", str(picture)]
    heavy = ("monai", "ignite", "transformers", "timm", "skimage", "openvino")
    codes, imported, said = started([[*words, "--output", str(tmp_path / "out")]], tmp_path, heavy)
    assert codes == [0], said
    assert not imported


def test_a_missing_engine_says_which_extra(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_pictures(tmp_path / "in", 1)
    for package, engine in (("onnxruntime", "onnx"), ("openvino", "openvino")):
        monkeypatch.setitem(sys.modules, package, None)
        words = ["--model", str(exported), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
        assert main(["predict", *words, "--engine", engine]) == 2
        assert 'pip install "monai-difom[deploy]"' in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "cv2", None)
    (tmp_path / "a.avi").touch()
    with pytest.raises(ValueError, match=r"Videos need the package cv2.*monai-difom\[video\]"):
        predict(exported, tmp_path / "a.avi", tmp_path / "out")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and "out" in path.parts]


@pytest.mark.parametrize(
    ("model", "engine", "message"),
    [
        ("nowhere", None, "no model at"),
        (".", None, "is no bundle and no finished run"),
        ("b/models/model.onnx", "torch", "model.onnx runs in onnx, not in torch"),
        ("b/LICENSE", None, "is no model file; allowed are .pt"),
        ("damaged.onnx", None, "is not readable ONNX"),
        ("damaged.xml", None, "has no damaged.bin beside it"),
        ("lonely.pt", None, "holds weights alone"),
    ],
)
def test_a_model_that_cannot_run_is_named(
    model: str, engine: str | None, message: str, exported: Path, tmp_path: Path
) -> None:
    (tmp_path / "b").symlink_to(exported)
    for name in ("damaged.onnx", "damaged.xml", "lonely.pt"):
        (tmp_path / name).write_text("nothing")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_runner(tmp_path / model, engine)


def test_a_bundle_without_the_engines_file_says_how_to_make_it(finished: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds nothing for onnx .*--format bundle,onnx"):
        open_runner(finished, "onnx")


def test_input_that_makes_no_sense_is_refused(finished: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path / "in", 1)
    Image.fromarray(blob(0)[0]).save(tmp_path / "in" / "0.jpg")
    with pytest.raises(ValueError, match="would write to one mask"):
        predict(finished, tmp_path / "in", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="holds nothing to segment"):
        predict(finished, tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ValueError, match="which is the input"):
        predict(finished, tmp_path / "in", tmp_path / "in")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="of no known kind"):
        predict(finished, tmp_path / "notes.txt", tmp_path / "out")


def test_results_inside_the_input_folder_are_not_segmented_again(finished: Path, tmp_path: Path) -> None:
    write_pictures(tmp_path, 1)
    for _ in range(2):
        assert predict(finished, tmp_path, tmp_path / "out")["frames"] == 1


def test_softmax_gives_every_pixel_to_one_structure() -> None:
    facts = Deployment((8, 8), activation="softmax", structures=("a", "b"))
    logits = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    masks = facts.masks(facts.probabilities(logits, (8, 8)))
    assert (masks.sum(0) == (logits[0].argmax(0) > 0)).all()
    with pytest.raises(ValueError, match="activation is 'relu'"):
        Deployment((8, 8), activation="relu")
    with pytest.raises(ValueError, match="damaged"):
        Deployment.from_dict({"size": 3})


def test_a_contour_lies_on_the_inner_edge_and_nowhere_else() -> None:
    picture = np.zeros((20, 20, 3), np.uint8)
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 5:15, 5:15] = True
    drawn = draw_contours(picture, mask, width=1).any(-1)
    inner = mask[0].copy()
    inner[6:14, 6:14] = False
    assert (drawn == inner).all()
    assert not draw_contours(picture, mask & False).any()


@pytest.mark.parametrize("width", [1, 2, 5])
def test_a_contour_is_the_mask_less_its_eroded_core_and_its_rim_is_outside(width: int) -> None:
    blobs = gaussian_filter(np.random.default_rng(width).normal(size=(61, 47)), 4) > 0.02
    drawn = draw_contours(np.full((61, 47, 3), 77, np.uint8), blobs[None], width)
    line = (drawn == COLORS[0]).all(-1)
    rim = (drawn == 0).all(-1)
    np.testing.assert_array_equal(line, blobs & ~binary_erosion(blobs, iterations=width))
    np.testing.assert_array_equal(rim, binary_dilation(blobs, iterations=(width + 1) // 2) & ~blobs)


def nifti(file: Path, size: tuple[int, ...], kind: int, bits: int, body: bytes) -> None:
    """A NIfTI file of any data type, written by hand."""
    head = bytearray(348)
    struct.pack_into("<i", head, 0, 348)
    struct.pack_into("<8h", head, 40, 3, *size, 1, 1, 1, 1)
    struct.pack_into("<hh", head, 70, kind, bits)
    struct.pack_into("<8f", head, 76, *[1.0] * 8)
    struct.pack_into("<f", head, 108, 352.0)
    head[344:348] = b"n+1\0"
    file.write_bytes(bytes(head) + bytes(4) + body)


def cut_video(file: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for i in range(20):
        writer.write(np.full((48, 64, 3), 10 * i, np.uint8))
    writer.release()
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


BAD: dict[str, tuple[str, Callable[[Path], object]]] = {
    "zeros as a video": ("a.mp4", lambda f: f.write_bytes(bytes(1000))),
    "an empty video": ("a.avi", lambda f: f.write_bytes(b"")),
    "a video that promises more frames": ("a.avi", cut_video),
    "colours in a volume": ("a.nii", lambda f: nifti(f, (10, 10, 2), 128, 24, b"\1" * 600)),
    "complex numbers in a volume": ("a.nii", lambda f: nifti(f, (10, 10, 2), 32, 64, b"\1" * 1600)),
    "a volume of no size": ("a.nii", lambda f: nifti(f, (0, 10, 10), 16, 32, bytes(100))),
    "a volume of negative size": ("a.nii", lambda f: nifti(f, (-5, 10, 10), 16, 32, bytes(100))),
    "a volume of terabytes": ("a.nii", lambda f: nifti(f, (6000, 6000, 30000), 16, 32, bytes(100))),
    "half a volume": ("a.nii", lambda f: nifti(f, (10, 10, 10), 16, 32, bytes(100))),
    "a volume of an unknown type": ("a.nii", lambda f: nifti(f, (10, 10, 2), 77, 24, bytes(600))),
    "text as a volume": ("a.nii.gz", lambda f: f.write_text("no")),
    "nothing as a picture": ("a.png", lambda f: f.write_bytes(b"")),
    "half a picture": ("a.png", lambda f: f.write_bytes(write_pictures(f.parent / ".b", 1)[0].read_bytes()[:300])),
    "a picture of too many pixels": ("a.png", lambda f: Image.new("1", (7_200, 7_200)).save(f)),
    "a pickle as a picture": ("a.jpg", lambda f: f.write_bytes(b"\x80\x04K\x01.")),
}  # fmt: skip


@pytest.mark.parametrize("overlay", [False, True])
@pytest.mark.parametrize("kind", BAD)
def test_whatever_is_bad_is_skipped_and_told_and_the_rest_is_segmented(
    kind: str, overlay: bool, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, make = BAD[kind]
    (tmp_path / "in").mkdir()
    make(tmp_path / "in" / name)
    Image.fromarray(blob(0)[0]).save(tmp_path / "in" / "z.png")
    words = [
        "predict",
        "--model",
        str(finished),
        "--input",
        str(tmp_path / "in"),
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(words) == 2
    assert "--skip-bad" in capsys.readouterr().err
    assert main([*words, "--skip-bad", *(["--overlay"] if overlay else [])]) == 1
    assert (tmp_path / "out" / "masks" / "z.png").is_file()
    rows = table(tmp_path / "out")
    assert [Path(row["file"]).name for row in rows if row["problem"]] == [name]
    assert [row["problem"] for row in rows if Path(row["file"]).name == "z.png"] == [""]
    assert name in capsys.readouterr().err
