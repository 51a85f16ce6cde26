"""A weight file with one wrong bit is refused, with the name of another copy; torch reads it as before."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from monai_difom.utils import load_state, save_state
from monai_difom.utils.checksum import DamagedFileError

STATE = {
    "weight": torch.arange(300.0).reshape(3, 100),
    "epoch": 3,
    "log": [{"loss": 0.5}],
    "empty": torch.zeros(0),
}


def test_a_file_with_a_checksum_is_one_of_torch(tmp_path: Path) -> None:
    file = tmp_path / "last.pt"
    save_state(file, STATE)
    for found in (load_state(file), torch.load(file, weights_only=True), torch.load(file, mmap=True)):
        assert torch.equal(found["weight"], STATE["weight"])
        assert found["log"] == STATE["log"]


@pytest.mark.parametrize("kind", ["ours", "of torch alone"])
def test_one_flipped_bit_anywhere_is_refused_or_changes_nothing(kind: str, tmp_path: Path) -> None:
    file, draw = tmp_path / "last.pt", random.Random(0)
    if kind == "ours":
        save_state(file, STATE)
    else:
        torch.save(STATE, file)
    content = file.read_bytes()
    places = [draw.randrange(len(content)) for _ in range(150)] + list(range(-110, 0)) + list(range(8))
    for place in places:
        damaged = bytearray(content)
        damaged[place] ^= 1 << draw.randrange(8)
        file.write_bytes(damaged)
        if kind == "ours":
            with pytest.raises(ValueError, match=r"last\.pt"):
                load_state(file)
            continue
        try:
            found = load_state(file)
        except ValueError:
            continue
        assert torch.equal(found["weight"], STATE["weight"])
        assert found["log"] == STATE["log"]


def test_a_damaged_file_names_the_copy_before_it(tmp_path: Path) -> None:
    file = tmp_path / "models" / "last.pt"
    save_state(file, {"epoch": 1}, before="last_before.pt")
    assert not (tmp_path / "models" / "last_before.pt").exists()
    save_state(file, {"epoch": 2}, before="last_before.pt")
    assert load_state(tmp_path / "models" / "last_before.pt") == {"epoch": 1}
    save_state(file, {"epoch": 3}, before="last_before.pt")
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(DamagedFileError, match=r"older copy is .*last_before\.pt"):
        load_state(file)
    assert load_state(tmp_path / "models" / "last_before.pt") == {"epoch": 2}
    file.rename(tmp_path / "models" / "other.pt")
    with pytest.raises(DamagedFileError, match="Take another copy"):
        load_state(tmp_path / "models" / "other.pt")
