"""Model files that are programs, or that lead out of their folder, are refused before a runtime opens them."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

from monai_difom.__main__ import main
from monai_difom.apps.deployed.runners import open_runner
from monai_difom.apps.deployed.signature import KEY_VARIABLE, is_signed, key_file, sign

from .hostile import facts
from .students import write_pictures

pytestmark = pytest.mark.xdist_group("exported")


class Writer(torch.nn.Module):
    """Writes a file when it is run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.save(torch.ones(1), "evil")
        return x[:, :1]


class LoadWriter(torch.nn.Module):
    """Writes a file when it is read."""

    def __init__(self) -> None:
        super().__init__()
        self.training = False

    @torch.jit.export
    def __getstate__(self) -> int:
        return 1

    @torch.jit.export
    def __setstate__(self, state: int) -> None:
        torch.save(torch.ones(1), "evil")
        self.training = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :1]


def script(module: torch.nn.Module, file: Path) -> Path:
    text = json.dumps(facts())
    torch.jit.save(torch.jit.script(module), file, _extra_files={"deployment.json": text})
    return file


@pytest.mark.parametrize("kind", [Writer, LoadWriter])
@pytest.mark.parametrize("place", ["file", "bundle", "bundle with a digest", "forged signature"])
def test_a_program_of_unknown_origin_is_not_run(
    kind: type[torch.nn.Module],
    place: str,
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    model = file = script(kind(), tmp_path / "model.ts")
    (tmp_path / "evil").unlink(missing_ok=True)  # saving may have run it
    if place.startswith("bundle"):
        model = tmp_path / "bundle"
        shutil.copytree(finished / "bundle" / "configs", model / "configs")
        (model / "models").mkdir()
        file = file.rename(model / "models" / "model.ts")
    if place == "bundle with a digest":
        metadata = json.loads((model / "configs" / "metadata.json").read_text())
        digest = __import__("hashlib").sha256(file.read_bytes()).hexdigest()
        entry = {"file": "models/model.ts", "sha256": digest, "parity": {}}
        (model / "configs/metadata.json").write_text(
            json.dumps({**metadata, "formats": {"torchscript": entry}})
        )
    if place == "forged signature":
        monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "another.key"))
        assert sign(file)
        monkeypatch.undo()
        monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "images", 1)
    left = sorted(tmp_path.rglob("*"))
    words = ["predict", "--model", str(model), "--input", "images", "--output", "out"]
    assert main(words) == 2
    assert "is a program" in (said := capsys.readouterr().err)
    assert "--trust-torchscript" in said
    assert sorted(tmp_path.rglob("*")) == left
    if kind is Writer and place == "file":
        assert main([*words, "--trust-torchscript"]) == 0
        assert Path("evil").is_file()


def test_what_this_machine_exported_is_signed_and_any_change_of_it_is_not(
    exported: Path, tmp_path: Path
) -> None:
    file = tmp_path / "other_name.ts"
    shutil.copyfile(exported / "models" / "model.ts", file)
    assert is_signed(file)
    assert open_runner(file).facts.structures == ("polyp",)
    assert key_file().stat().st_mode & 0o777 == 0o600
    reader = torch._C.PyTorchFileReader(str(file))
    for name in ("data.pkl", "extra/deployment.json", "extra/signature", "data/0"):
        changed = tmp_path / "changed.ts"
        writer = torch._C.PyTorchFileWriter(str(changed))
        for record in reader.get_all_records():
            if record == "version" or record.startswith(".data"):
                continue
            content = reader.get_record(record)
            content = content[:-1] + bytes([content[-1] ^ 1]) if record == name else content
            writer.write_record(record, content, len(content))
        writer.write_end_of_file()
        assert not is_signed(changed), name
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(f"{archive.namelist()[0].split('/')[0]}/code/evil.py", "print(1)")
    assert not is_signed(file)


def test_without_a_key_nothing_is_signed_and_nothing_fails(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "file" / "signing.key"))
    assert not is_signed(exported / "models" / "model.ts")
    copy = tmp_path / "copy.ts"
    shutil.copyfile(exported / "models" / "model.ts", copy)
    assert not sign(copy)
    with pytest.raises(ValueError, match="--trust-torchscript"):
        open_runner(copy)
    assert open_runner(copy, trust_torchscript=True).engine == "torch"
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "short.key"))
    (tmp_path / "short.key").write_bytes(b"")
    assert not sign(copy)


def external(location: str, in_branch: bool = False) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        if in_branch:  # a tensor deep in a graph of an attribute
            node = model.graph.node.add()
            node.op_type = "If"
            graph = node.attribute.add().g
            tensor = graph.node.add().attribute.add().t
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


@pytest.mark.parametrize(
    "change",
    [
        external("/etc/passwd"),
        external("../secret.bin"),
        external("folder/../../secret.bin"),
        external("link.bin"),
        external("linked/secret.bin"),
        external("gone.bin"),
        external(""),
        external("a\0b"),
        external("*/_ORT_MEM_ADDR_/*"),
        external("../secret.bin", in_branch=True),
    ],
)
def test_onnx_weights_outside_of_the_folder_are_not_read(
    change: Callable[[onnx.ModelProto], None], exported: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret.bin").write_bytes(b"secret" * 100_000)
    folder = tmp_path / "model"
    (folder / "folder").mkdir(parents=True)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "linked").symlink_to(tmp_path)
    model = onnx.load(exported / "models" / "model.onnx")
    change(model)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="not in its folder"):
        open_runner(folder / "model.onnx")


@pytest.mark.parametrize("content", [b"", b"evil", b"\x08" * 1000])
@pytest.mark.parametrize("name", ["model.ts", "model.onnx", "model.xml", "model.pt"])
def test_what_is_no_model_is_refused(content: bytes, name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "model.bin").touch()
    with pytest.raises(ValueError, match=name):
        open_runner(tmp_path / name)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('<data element_type="f16"', '<data path="/etc/passwd" element_type="f16"', "reads model_fp16.bin alone"),
        ('<data element_type="f16"', '<data file="..\\secret.bin" element_type="f16"', "reads model_fp16.bin alone"),
        ('<net name=', '<net bin="C:secret" name=', "reads model_fp16.bin alone"),
        ("<net name=", '<!DOCTYPE a [<!ENTITY b "c">]><net name=', "defines entities"),
        ("</net>", "", "not readable OpenVINO"),
        ('offset="0"', 'offset="99999999999"', "not readable OpenVINO"),
    ],
)  # fmt: skip
def test_openvino_that_names_other_files_is_refused(
    old: str, new: str, message: str, exported: Path, tmp_path: Path
) -> None:
    text = (exported / "models" / "model_fp16.xml").read_text()
    assert old in text
    (tmp_path / "model_fp16.xml").write_text(text.replace(old, new, 1))
    shutil.copyfile(exported / "models" / "model_fp16.bin", tmp_path / "model_fp16.bin")
    with pytest.raises(ValueError, match=message):
        open_runner(tmp_path / "model_fp16.xml")


def test_openvino_weights_are_no_link_out_of_the_folder(exported: Path, tmp_path: Path) -> None:
    shutil.copyfile(exported / "models" / "model_fp16.xml", tmp_path / "model_fp16.xml")
    with pytest.raises(ValueError, match=r"no model_fp16\.bin beside it"):
        open_runner(tmp_path / "model_fp16.xml")
    (tmp_path / "model_fp16.bin").symlink_to(exported / "models" / "model_fp16.bin")
    with pytest.raises(ValueError, match="not in its folder"):
        open_runner(tmp_path / "model_fp16.xml")


def test_a_network_that_is_not_what_its_facts_say_is_refused(tmp_path: Path) -> None:
    class Two(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :2]

    with pytest.raises(ValueError, match=r"of the shape \(1, 2, 32, 32\); needed are logits of 1 channels"):
        open_runner(script(Two(), tmp_path / "two.ts"), trust_torchscript=True)
