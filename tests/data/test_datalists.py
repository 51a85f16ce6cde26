import json

import pytest
from PIL import Image

from monai_difom.data import clinicdb_sequence, split_validation, train_validation, training_pairs
from monai_difom.data import test_sets as sets_of


def write(folder, names, images="images", masks="masks"):
    for sub in (images, masks):
        (folder / sub).mkdir(parents=True, exist_ok=True)
        for name in names:
            Image.new("L", (8, 8)).save(folder / sub / f"{name}.png")


@pytest.mark.parametrize(
    ("top", "images", "masks"),
    [("TrainDataset", "image", "mask"), ("TrainDB", "images", "masks"), ("", "images", "labels")],
)
def test_each_layout_is_found(tmp_path, top, images, masks):
    write(tmp_path / top, ["b", "a"], images, masks)
    items = training_pairs(tmp_path)
    assert [item["group"] for item in items] == ["a", "b"]
    assert sets_of(tmp_path) == {}


def test_the_case_of_an_extension_is_ignored(tmp_path):
    write(tmp_path, ["a"])
    (tmp_path / "images/a.png").rename(tmp_path / "images/a.PNG")
    assert len(training_pairs(tmp_path)) == 1


def test_test_sets_come_by_name(tmp_path):
    write(tmp_path / "TestDB" / "B", ["x"])
    write(tmp_path / "TestDB" / "A", ["x", "y"])
    assert {name: len(items) for name, items in sets_of(tmp_path).items()} == {"A": 2, "B": 1}


def test_an_absent_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        training_pairs(tmp_path / "nowhere")


def test_an_unknown_layout_lists_what_was_found_and_what_is_allowed(tmp_path):
    (tmp_path / "pictures").mkdir()
    with pytest.raises(ValueError, match=r"pictures/(.|\n)*TrainDataset"):
        training_pairs(tmp_path)


def test_empty_folders_are_refused(tmp_path):
    write(tmp_path, [])
    with pytest.raises(ValueError, match="hold no images"):
        training_pairs(tmp_path)


def test_unpaired_files_of_both_sides_are_counted(tmp_path):
    write(tmp_path, [f"{n:02d}" for n in range(13)])
    for n in range(12):
        (tmp_path / f"masks/{n:02d}.png").unlink()
    (tmp_path / "images/12.png").unlink()
    with pytest.raises(ValueError, match=r"12 without mask .* and 2 more; 1 without image"):
        training_pairs(tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path):
    write(tmp_path, ["a"])
    Image.new("L", (8, 8)).save(tmp_path / "images/a.jpg")
    with pytest.raises(ValueError, match="two files named 'a'"):
        training_pairs(tmp_path)


def test_a_datalist_gives_its_own_lists(tmp_path):
    write(tmp_path, "abc")
    pair = [{"image": f"images/{n}.png", "label": f"masks/{n}.png"} for n in "abc"]
    content = {"training": pair[:1], "validation": pair[1:2], "test": pair[2:]}
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    train, validation = train_validation(tmp_path)
    assert [train[0]["group"], validation[0]["group"]] == ["images/a", "images/b"]
    assert list(sets_of(tmp_path / "datalist.json")) == ["test"]
    content["validation"] = pair[:1]
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="in both"):
        train_validation(tmp_path)


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("{", ValueError, "not valid JSON"),
        ("[]", ValueError, "holds a list"),
        ("{}", ValueError, "no 'training' list"),
        ('{"training": {"a": 1}}', ValueError, "is a dict"),
        ('{"training": [{"image": "a"}]}', ValueError, "item 0"),
        ('{"training": [{"image": "a", "label": "b"}]}', FileNotFoundError, "do not exist"),
    ],
)
def test_a_wrong_datalist_says_what_is_wrong(tmp_path, text, error, message):
    (tmp_path / "datalist.json").write_text(text)
    with pytest.raises(error, match=message):
        training_pairs(tmp_path)


def test_a_split_keeps_groups_together_and_ignores_the_order():
    items = [{"image": f"{n:03d}", "label": "", "group": str(n // 5)} for n in range(100)]
    train, validation = split_validation(items, 0.2, seed=1)
    assert len(validation) == 20
    assert not {i["group"] for i in train} & {i["group"] for i in validation}
    assert split_validation(items[::-1], 0.2, seed=1) == (train, validation)
    assert split_validation(items, 0.2, seed=2) != (train, validation)


def test_a_split_always_has_both_sides():
    items = [{"image": str(n), "label": "", "group": "big" if n else "small"} for n in range(9)]
    train, validation = split_validation(items, 0.01)
    assert (len(train), len(validation)) == (8, 1)


def test_a_split_refuses_one_group_and_wrong_fractions():
    with pytest.raises(ValueError, match="never divided"):
        split_validation([{"image": "a", "label": "", "group": "g"}])
    with pytest.raises(ValueError, match="fraction"):
        split_validation([], 1.0)


def test_a_limit_cuts_after_the_split(tmp_path):
    write(tmp_path, [f"n{n:02d}" for n in range(40)])
    train, validation = train_validation(tmp_path)
    assert train_validation(tmp_path, limit=3) == (train[:3], validation[:3])
    with pytest.raises(ValueError, match="limit"):
        train_validation(tmp_path, limit=0)


def test_frames_map_to_the_published_sequences():
    assert [clinicdb_sequence(n) for n in (1, 25, 26, 205, 206, 592, 612)] == [1, 1, 2, 10, 11, 29, 29]
    for frame in (0, 613):
        with pytest.raises(ValueError, match="no frame"):
            clinicdb_sequence(frame)


@pytest.mark.real_data
def test_the_real_polyp_sets_are_found_and_split_without_leak(shared_data):
    root = shared_data / "polyp"
    assert len(training_pairs(root)) == 1450
    assert {name: len(items) for name, items in sets_of(root).items()} == {"CVC-ClinicDB": 62, "Kvasir": 100}
    train, validation = train_validation(root)
    assert len(train) + len(validation) == 1450
    assert 130 <= len(validation) <= 160
    shared = {i["group"] for i in train} & {i["group"] for i in validation}
    assert not shared
    assert sum(i["group"].startswith("CVC") for i in train + validation) == 550


def test_a_datalist_may_name_several_test_sets(tmp_path):
    write(tmp_path, ["a", "b", "c"])
    entry = {stem: {"image": f"images/{stem}.png", "label": f"masks/{stem}.png"} for stem in "abc"}
    lists = {"training": [entry["a"]], "test": {"near": [entry["b"]], "far": [entry["c"]]}}
    (tmp_path / "datalist.json").write_text(json.dumps(lists))
    assert {name: [i["group"] for i in items] for name, items in sets_of(tmp_path).items()} == {
        "far": ["images/c"],
        "near": ["images/b"],
    }
