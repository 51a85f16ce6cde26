"""Injected faults: killed trainings, flipped bits, hostile bundles, malformed inputs. All of them must hold.

- kills: a training is killed (SIGKILL) at a random moment, once or twice, and its command given again with ``resume``. It holds
  where it ends with the weights of one that was not killed, bit for bit, its record says finished, and no draft is left.
- flips: one random bit of a checkpoint, or of a file of a feature store, is turned. It holds where the file is refused by its
  name; of a store, where ``build`` makes it whole again.
- bundles: a bundle that would run, read or fetch something when it is opened. It holds where ``predict``, ``export`` and
  `bundle_teacher` refuse it, and nothing of it has run.
- inputs: a broken picture, video, volume, YAML or JSON file. It holds where it is refused with its name, in seconds.

    python benchmarks/faults.py [--kills 20] [--flips 30] [--seed 0]

Two or three minutes on a CPU. What is hostile or malformed is listed with the tests, which try it too. The last line is one JSON
object: tried and held by campaign.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from monai_difom.apps import claim_run
from monai_difom.apps.deployed.runners import open_runner
from monai_difom.apps.export.deployable import export_bundle
from monai_difom.apps.predict.predict import predict
from monai_difom.apps.report import conclude
from monai_difom.apps.runs.record import run_training
from monai_difom.data import StoreError
from monai_difom.handlers import TrainingCheckpoint
from monai_difom.networks.teachers import bundle_teacher
from monai_difom.utils import load_state
from tests.apps.deployed.hostile import CHANGES, make
from tests.apps.deployed.students import MONAI_NETWORK, learn, write_run
from tests.apps.predict.test_predict import BAD
from tests.tiny import make_builder, make_data, make_plan, make_trainer
from tests.utils.test_documents import JSON, YAML, parse_json, parse_yaml

EPOCHS = (3, 3, 2)
Campaign = Callable[[Path, random.Random], tuple[int, list[str]]]


def train(data: Path, folder: Path) -> None:
    """A training as a bundle's run id does it: the folder taken, a record kept, gone on with where it was stopped."""
    models = folder / "models"
    resume = models if (models / "last.pt").is_file() else None
    claim_run(folder, models, resume)
    trainer = make_trainer(data, make_plan(EPOCHS), [TrainingCheckpoint(models)], resume=resume)
    run_training(trainer, folder)
    conclude(trainer, {}, None, folder, report=False)  # type: ignore[arg-type]


def in_a_process(data: Path, folder: Path, kill_after: float | None = None) -> int:
    """Train in a process of its own, and return how it ended: 0, or minus the signal that killed it."""
    child = os.fork()
    if child == 0:
        os.close(2)
        try:
            train(data, folder)
        finally:
            os._exit(1 if sys.exc_info()[0] else 0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kills(folder: Path, draw: random.Random, count: int) -> tuple[int, list[str]]:
    """Kill trainings, each once or twice, and go on with them."""
    data = make_data(folder / "data")
    begun = time.perf_counter()
    assert in_a_process(data, folder / "whole") == 0
    seconds = time.perf_counter() - begun
    expected = load_state(folder / "whole" / "models" / "last.pt")
    failures, tried, number = [], 0, 0
    while tried < count:
        run, number = folder / f"run{number}", number + 1
        for _ in range(draw.choice((1, 1, 2))):
            tried += in_a_process(data, run, draw.uniform(0.05, 0.95) * seconds) == -signal.SIGKILL
        ended = in_a_process(data, run)
        left = [path.name for path in run.rglob("*") if path.name.endswith(".part")]
        found = load_state(run / "models" / "last.pt") if ended == 0 else {"distiller": {}}
        same = found["distiller"].keys() == expected["distiller"].keys() and all(
            torch.equal(value, expected["distiller"][key]) for key, value in found["distiller"].items()
        )
        status = json.loads((run / "run.json").read_text())["status"] if ended == 0 else ""
        if not same or status != "finished" or left:
            failures.append(f"{run.name}: ended {ended}, same weights {same}, status {status}, left {left}")
    return tried, failures


def flip(file: Path, draw: random.Random) -> None:
    """Turn one bit of a file."""
    content = bytearray(file.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    file.write_bytes(content)


def flips(folder: Path, draw: random.Random, count: int) -> tuple[int, list[str]]:
    """Turn bits of checkpoints, which are then refused, and of a store, which is then made whole."""
    data = make_data(folder / "data")
    make_trainer(data, make_plan((1, 0, 0)), [TrainingCheckpoint(folder / "models")]).run()
    store = folder / "store"
    make_builder(data, store).build()
    whole = {path: path.read_bytes() for path in store.rglob("*") if path.is_file() and path.stat().st_size}
    parts = [path for path in whole if path.suffix in (".json", ".safetensors")]
    failures = []
    for number in range(count):
        if number % 2:
            file = draw.choice(sorted((folder / "models").glob("*.pt")))
            good = file.read_bytes()
            flip(file, draw)
            try:
                load_state(file)
                failures.append(f"{file.name} was read")
            except ValueError as error:
                if file.name not in str(error):
                    failures.append(f"{file.name} is not named: {error}")
            file.write_bytes(good)
            continue
        file = draw.choice(sorted(parts))
        flip(file, draw)
        try:
            noticed = not make_builder(data, store).verify(1)["ok"]
        except StoreError as error:
            noticed = file.name in str(error)
        make_builder(data, store).build()
        changed = [path.name for path, content in whole.items() if path.read_bytes() != content]
        if not noticed or changed:
            failures.append(f"{file.name}: noticed {noticed}, not as before {changed}")
    return count, failures


def bundles(folder: Path, _draw: random.Random) -> tuple[int, list[str]]:
    """Open hostile bundles by every door."""
    good = write_run(folder / "good", MONAI_NETWORK, learn(MONAI_NETWORK, folder / "model.pt", steps=1))
    failures = []
    for number, (kind, change) in enumerate(CHANGES.items()):
        place = folder / str(number)
        place.mkdir()
        os.chdir(place)
        bundle = make(change, good / "bundle", place)
        left = sorted(place.rglob("*"))
        doors = {
            "predict": lambda bundle=bundle: open_runner(bundle),
            "export": lambda bundle=bundle: export_bundle(bundle, "out", ["bundle"]),
            "teacher": lambda bundle=bundle: bundle_teacher(
                bundle, {"a": "down_4"}, mean=[0.5] * 3, std=[0.5] * 3
            ),
        }
        for door, enter in doors.items():
            # facts of images are nothing to a teacher
            if (
                door == "teacher"
                and (bundle / "configs/inference.yaml").read_bytes()
                == (good / "bundle" / "configs/inference.yaml").read_bytes()
            ):
                continue
            try:
                enter()
                failures.append(f"{kind}: {door} took it")
            except ValueError:
                pass
        if sorted(place.rglob("*")) != left:
            failures.append(f"{kind}: something has run")
    return len(CHANGES), failures


def inputs(folder: Path, _draw: random.Random) -> tuple[int, list[str]]:
    """Read malformed files."""
    run = write_run(folder / "run", MONAI_NETWORK, learn(MONAI_NETWORK, folder / "model.pt", steps=1))
    failures = []
    for number, (kind, (name, write)) in enumerate(BAD.items()):
        place = folder / str(number)
        place.mkdir()
        write(place / name)
        begun = time.perf_counter()
        found = predict(run, place / name, folder / "out" / str(number), skip_bad=True)
        if len(found["skipped"]) != 1 or name not in found["skipped"][0] or time.perf_counter() - begun > 20:
            failures.append(f"{kind}: {found['skipped']}")
    for read, texts in ((parse_yaml, YAML), (parse_json, JSON)):
        for kind, (text, _) in texts.items():
            begun = time.perf_counter()
            try:
                read(text, "given.file")
                failures.append(f"{kind} was read")
            except ValueError as error:
                if "given.file" not in str(error) or time.perf_counter() - begun > 10:
                    failures.append(f"{kind}: {error}")
    return len(BAD) + len(YAML) + len(JSON), failures


def main(arguments: list[str] | None = None) -> dict[str, dict[str, int]]:
    """Run all campaigns, print what did not hold, and return tried and held of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--flips", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    campaigns: dict[str, Campaign] = {
        "kills": lambda folder, draw: kills(folder, draw, given.kills),
        "flips": lambda folder, draw: flips(folder, draw, given.flips),
        "bundles": bundles,
        "inputs": inputs,
    }
    here, root, found = Path.cwd(), Path(tempfile.mkdtemp(prefix="difom_faults_")), {}
    try:
        for name, campaign in campaigns.items():
            (root / name).mkdir()
            begun = time.perf_counter()
            tried, failures = campaign(root / name, random.Random(given.seed))
            os.chdir(here)
            for failure in failures:
                print(f"{name}: {failure}")
            found[name] = {"tried": tried, "held": tried - len(failures)}
            print(
                f"{name}: {tried - len(failures)} of {tried} held, {time.perf_counter() - begun:.0f} s",
                flush=True,
            )
    finally:
        os.chdir(here)
        logging.disable(logging.NOTSET)
        shutil.rmtree(root, ignore_errors=True)
    print(json.dumps(found))
    return found


if __name__ == "__main__":
    result = main()
    sys.exit(0 if all(one["tried"] == one["held"] for one in result.values()) else 1)
