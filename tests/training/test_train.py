"""`alit train`: every stage learns, resumes to the bit, and says what it did."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from alit_cli.data.sources.listing import list_items
from alit_cli.errors import AlitError, InputError
from alit_cli.model.checkpoint import read_alit, read_checkpoint
from alit_cli.model.lpips import LAYER_NUMBERS, Lpips
from alit_cli.model.rollout import Alit
from alit_cli.progress import Progress
from alit_cli.training.crops import CropDataset, CropSettings, open_crops
from alit_cli.training.job import TrainJob
from alit_cli.training.loop import Intervals
from alit_cli.training.optimizers import Muon, Optimizers, orthogonal
from alit_cli.training.recipe import Recipe, StageRecipe, recipe_for
from alit_cli.training.records.log import Remark, TrainRecord
from alit_cli.training.stages.base import align_with_pixels
from alit_cli.training.start import Start, choose_start
from alit_cli.training.train import train
from tests.model import tiny
from tests.training.photos import write_photos

STAGE = StageRecipe(steps=6, batch_size=4, learning_rate=1e-3, warmup=2, muon=0.01)
SAMPLED = Recipe(
    STAGE,
    STAGE,
    STAGE,
    crops=2,
    validation=2,
    iterations="sampled",
    parallel_until=0.2,
    full_rollouts_from=0.4,
    quantize_from=0.4,
    halting=False,
    train_base_encoder=False,
)
ALL = dataclasses.replace(SAMPLED, iterations="all", parallel_until=0.0, halting=True, train_base_encoder=True)
OFTEN = Intervals(log_steps=1, validate_steps=3)


def _job(folder: Path, recipe: Recipe, kind: str = "vae", codes: int = 32) -> TrainJob:
    if not (folder / "photos").exists():
        write_photos(folder / "photos", 14)
    config = tiny.config("vae" if kind == "vae" else "vqgan", codes)
    return TrainJob([str(folder / "photos")], folder / "m.safetensors", Start(config, "nano"), recipe)


def _crops(job: TrainJob) -> CropDataset:
    items = list_items(list(job.photos))
    settings = CropSettings(job.config.image_size, job.recipe.crops, job.recipe.validation, job.recipe.seed)
    return open_crops(job.work, items, settings)


def goes_on_to_the_same_weights(broken: TrainJob, whole: TrainJob) -> str:
    """Finish an interrupted run; it must end to the bit as the unbroken one did. Returns what the run remarked."""
    remarks = [report.text for report in train(broken, OFTEN) if isinstance(report, Remark)]
    expected, found = load_file(whole.out), load_file(broken.out)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    return "\n".join(remarks)


@pytest.mark.parametrize("recipe", [SAMPLED, ALL], ids=["sampled", "all"])
@pytest.mark.parametrize(("kind", "codes"), [("vae", 32), ("vqgan", 32), ("vae", 0)])
def test_all_stages_in_one_go(
    tmp_path: Path, recipe: Recipe, kind: str, codes: int, request: pytest.FixtureRequest
) -> None:
    if codes:
        request.getfixturevalue("estimated")
    job = _job(tmp_path, recipe, kind, codes)
    records = [record for record in train(job, OFTEN) if isinstance(record, TrainRecord)]
    checkpoint = read_checkpoint(job.out)
    assert checkpoint.record.stages == ("base", "distill", "finetune")
    for stage in checkpoint.record.training:
        assert stage["steps"] == 6
        assert stage["recipe"]["seed"] == 0
        assert all(0 < l1 < 1 for l1 in stage["validation_l1"].values())
    validated = [record.validation for record in records if record.validation and record.stage != "base"]
    assert all(list(figures) == [2, 4, 6] for figures in validated)
    logged = [json.loads(line) for line in (job.work / "log.jsonl").read_text().splitlines()]
    assert len(logged) == 18
    if recipe.halting:
        assert any("halted" in entry["losses"] for entry in logged)


def test_stages_learn(tmp_path: Path) -> None:
    """With one and the same iteration trained at every step, the last ten losses are clearly below the first ten."""
    long = dataclasses.replace(STAGE, steps=60, learning_rate=3e-3, late_bias=50.0)  # always the last iteration
    recipe = dataclasses.replace(SAMPLED, base=long, distill=long, finetune=long, quantize_from=0.0, validation=0)
    job = _job(tmp_path, recipe)
    for _ in train(job, Intervals(log_steps=10, validate_steps=60)):
        pass
    log = [json.loads(line) for line in (job.work / "log.jsonl").read_text().splitlines()]
    for stage, name in (("base", "l1"), ("finetune", "l1"), ("distill", "main")):
        losses = [entry["losses"][name] for entry in log if entry["stage"] == stage]
        assert losses[-1] < 0.96 * losses[0], stage


@pytest.mark.parametrize("stop", [2, 9, 16])
def test_an_interrupted_run_ends_in_the_same_weights(tmp_path: Path, stop: int) -> None:
    whole = _job(tmp_path, SAMPLED)
    for _ in train(whole, OFTEN):
        pass
    broken = dataclasses.replace(whole, out=tmp_path / "broken.safetensors")
    run = (record for record in train(broken, OFTEN) if isinstance(record, TrainRecord))
    list(itertools.islice(run, stop))
    run.close()
    del run
    remarks = goes_on_to_the_same_weights(broken, whole)
    assert " resumes after step " in remarks
    # Fourteen photographs, two of them held out: 3 stages of 6 steps of 4 use each of the others six times.
    assert "These are few photographs: each is used about 6 times" in remarks


def test_stages_one_by_one(tmp_path: Path) -> None:
    base = dataclasses.replace(_job(tmp_path, SAMPLED), stages=("base",))
    for _ in train(base, OFTEN):
        pass
    # Without sizes, a base tokenizer alone would get those of the preset: 256 pixels, and wide transformers.
    sizes = dataclasses.asdict(base.config)
    names = ("image_size", "tokens_per_iteration", "iterations", "width", "layers", "heads", "codes")
    start = choose_start(base.out, "nano", {name: sizes[name] for name in names})
    on = dataclasses.replace(base, stages=("distill",), start=start, out=tmp_path / "d.safetensors")
    for _ in train(on, OFTEN):
        pass
    (before, _), (after, record) = read_alit(base.out), read_alit(on.out)
    assert record.stages == ("base", "distill")
    for name, tensor in before.base.state_dict().items():
        assert torch.equal(after.base.state_dict()[name], tensor), name
    with pytest.raises(InputError, match="base"):
        list(train(dataclasses.replace(on, start=base.start, out=tmp_path / "x.safetensors"), OFTEN))


def test_another_runs_work_is_not_taken_over(tmp_path: Path) -> None:
    job = _job(tmp_path, SAMPLED)
    for _ in train(job, OFTEN):
        pass
    with pytest.raises(InputError, match=r"iterations sampled, now all.*overwrite"):
        list(train(dataclasses.replace(job, recipe=ALL), OFTEN))
    write_photos(tmp_path / "photos" / "more", 1)
    with pytest.raises(InputError, match=r"\(photographs 14, now 15\)"):
        list(train(job, OFTEN))


def test_a_run_that_never_began_is_in_nobodys_way(tmp_path: Path) -> None:
    job = dataclasses.replace(_job(tmp_path, SAMPLED), stages=("base",))
    (tmp_path / "notes").mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (tmp_path / "notes" / name).write_text("no picture")
    with pytest.raises(InputError, match=r"Only 0 of 3 photographs .* '[abc].jpg': "):
        list(train(dataclasses.replace(job, photos=[str(tmp_path / "notes")]), OFTEN))
    list(train(job, OFTEN))
    assert job.out.exists()


def test_slow_steps_are_told_before_they_are_logged(tmp_path: Path) -> None:
    job = dataclasses.replace(_job(tmp_path, SAMPLED), stages=("base",))
    pace = Intervals(log_steps=4, validate_steps=100, tell_seconds=0)
    records = [record for record in train(job, pace) if isinstance(record, TrainRecord)]
    assert [(record.step, bool(record.losses)) for record in records] == [
        (0, False),
        *((step, step in (4, 6)) for step in range(1, 7)),
    ]
    assert len((job.work / "log.jsonl").read_text().splitlines()) == 2


def test_a_full_disk_is_said_and_leaves_the_last_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = dataclasses.replace(_job(tmp_path, SAMPLED), stages=("base",))
    run = (record for record in train(job, OFTEN) if isinstance(record, TrainRecord))
    list(itertools.islice(run, 3))
    run.close()
    before = (job.work / "base.state").read_bytes()

    def fails(_state: object, file: BinaryIO) -> None:
        file.write(b"some")
        raise RuntimeError("unexpected pos 1426752 vs 1426704")  # what torch makes of a full disk

    monkeypatch.setattr("alit_cli.training.loop.torch.save", fails)
    with pytest.raises(AlitError, match=r"The disk is full: '.*base\.state'"):
        list(train(job, OFTEN))
    assert (job.work / "base.state").read_bytes() == before
    assert not list(job.work.glob("*.tmp"))


def test_sampled_iterations_end_halting() -> None:
    assert recipe_for("small", {}).halting
    assert not recipe_for("small", {}, iterations="sampled").halting
    with pytest.raises(InputError, match="whole rollouts"):
        recipe_for("small", {}, iterations="sampled", halting=True)


def test_a_vaes_latents_are_standardized(tmp_path: Path) -> None:
    job = dataclasses.replace(_job(tmp_path, SAMPLED), stages=("base",))
    for _ in train(job, OFTEN):
        pass
    model, _ = read_alit(job.out)
    crops = _crops(job)
    with torch.no_grad():
        latents = model.base.encode(crops.batch(crops.order(0, 0), torch.device("cpu")).images)
    assert latents.std().item() == pytest.approx(1, rel=1e-3)
    assert latents.mean(dim=(0, 2, 3)).abs().max() < 1e-3


def _write_lpips(path: Path) -> Path:
    """LPIPS with random weights, under the names of torchvision's and lpips' files."""
    torch.manual_seed(0)
    model = Lpips()
    weights = {f"lin{i}.model.1.weight": torch.rand(1, len(head), 1, 1) for i, head in enumerate(model.heads)}
    for number, layer in zip(LAYER_NUMBERS, model.convolutions, strict=True):
        weights |= {f"features.{number}.{name}": tensor for name, tensor in layer.state_dict().items()}
    save_file(weights, path)
    return path


def test_lpips_takes_part_in_both_stages_that_see_pixels(tmp_path: Path) -> None:
    two = dataclasses.replace(STAGE, steps=2)
    recipe = dataclasses.replace(ALL, base=two, distill=two, finetune=two, validation=0, perceptual_weight=0.5)
    lpips = (str(_write_lpips(tmp_path / "lpips.safetensors")),)
    with_it = _job(tmp_path, dataclasses.replace(recipe, lpips=lpips))
    for _ in train(with_it, OFTEN):
        pass
    log = [json.loads(line)["losses"] for line in (with_it.work / "log.jsonl").read_text().splitlines()]
    assert ["lpips" in losses for losses in log] == [True, True, False, False, True, True]
    finetune = log[-1]
    assert finetune["total"] == pytest.approx(finetune["l1"] + 0.5 * finetune["lpips"] + finetune["vq"], rel=1e-4)
    without = dataclasses.replace(with_it, out=tmp_path / "without.safetensors", recipe=recipe)
    for _ in train(without, OFTEN):
        pass
    first, second = load_file(with_it.out), load_file(without.out)
    name = "base.decoder.conv_out.weight"
    assert not torch.equal(first[name], second[name])  # its gradients count


def test_a_critic_takes_part(tmp_path: Path) -> None:
    recipe = dataclasses.replace(
        ALL, gan=("base", "finetune"), gan_schedule=((0.3, 0.2), (0.6, 0.8)), critic_steps=2, validation=0
    )
    job = _job(tmp_path, recipe)
    for _ in train(job, OFTEN):
        pass
    log = [json.loads(line) for line in (job.work / "log.jsonl").read_text().splitlines()]
    for stage in ("base", "finetune"):
        on = ["gan" in entry["losses"] for entry in log if entry["stage"] == stage]
        assert on == [False, False, True, True, True, True]
    assert not [name for name in load_file(job.out) if "critic" in name]


def test_an_interrupted_run_with_a_critic_ends_in_the_same_weights(tmp_path: Path) -> None:
    recipe = dataclasses.replace(ALL, gan=("base",), gan_schedule=((0.0, 0.5),), critic_steps=1, validation=0)
    whole = dataclasses.replace(_job(tmp_path, recipe), stages=("base",))
    for _ in train(whole, OFTEN):
        pass
    broken = dataclasses.replace(whole, out=tmp_path / "broken.safetensors")
    run = (record for record in train(broken, OFTEN) if isinstance(record, TrainRecord))
    list(itertools.islice(run, 4))
    run.close()
    del run
    goes_on_to_the_same_weights(broken, whole)


def test_a_vqgans_codebook_stays_alive(tmp_path: Path) -> None:
    long = dataclasses.replace(STAGE, steps=130, learning_rate=1e-3)
    job = dataclasses.replace(_job(tmp_path, dataclasses.replace(SAMPLED, base=long), "vqgan"), stages=("base",))
    for _ in train(job, Intervals(log_steps=10, validate_steps=1000)):
        pass
    log = [json.loads(line) for line in (job.work / "log.jsonl").read_text().splitlines()]
    assert log[-1]["losses"]["usage"] >= 0.5
    (picture,) = (job.work / "pictures").glob("base-*.png")
    with Image.open(picture) as sheet:
        assert sheet.size == (2 * job.config.image_size, 2 * job.config.image_size)  # two photographs, two columns
    board = EventAccumulator(str(job.work / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("base/l1")] == [*range(10, 131, 10)]
    assert board.Images("base/reconstructions")


def _aligned(aligning: Generator[Progress, None, Alit]) -> Alit:
    """What it gives, once it has said how far it is."""
    assert next(aligning).unit == "photographs"
    while True:
        try:
            next(aligning)
        except StopIteration as end:
            model: Alit = end.value
            return model


def test_aligning_changes_coordinates_and_no_picture(tmp_path: Path) -> None:
    job = dataclasses.replace(_job(tmp_path, SAMPLED), stages=("base",))
    for _ in train(job, OFTEN):
        pass
    crops = _crops(job)
    torch.manual_seed(0)
    model = Alit(job.config).eval()
    aligned = _aligned(align_with_pixels(model, crops, torch.device("cpu")))
    images = crops.batch(crops.order(0, 0), torch.device("cpu")).images
    before = model.base.decode(model.base.target(model.base.encode(images)))
    after = aligned.base.decode(aligned.base.target(aligned.base.encode(images)))
    assert torch.allclose(before, after, atol=1e-4)
    again = _aligned(align_with_pixels(aligned, crops, torch.device("cpu")))
    gap = (again.base.encode(images) - aligned.base.encode(images)).abs().max()
    assert gap < 1e-2  # already aligned


def test_muon_moves_the_transformers_matrices_and_adamw_the_rest() -> None:
    model = Alit(tiny.config("vae", 32))
    named = list(model.named_parameters())
    adamw, muon = Optimizers(named, STAGE).parts
    moved = {id(p) for group in muon[0].param_groups for p in group["params"]}
    matrices = {
        id(p) for part in (model.encoder.blocks, model.decoder.blocks) for p in part.parameters() if p.ndim == 2
    }
    assert moved == matrices
    others = {id(p) for group in adamw[0].param_groups for p in group["params"]}
    assert others == {id(p) for _, p in named} - matrices
    (alone,) = Optimizers(named, dataclasses.replace(STAGE, muon=0.0)).parts
    assert isinstance(alone[0], torch.optim.AdamW)


def test_muon_is_torchs_but_for_its_precision() -> None:
    """Three updates of wide and tall matrices; torch iterates in bf16, which keeps about three digits."""
    rng = torch.Generator().manual_seed(0)
    shapes = [(24, 72), (72, 24), (16, 16)]
    mine = [torch.nn.Parameter(torch.randn(shape, generator=rng)) for shape in shapes]
    theirs = [torch.nn.Parameter(matrix.detach().clone()) for matrix in mine]
    start = [matrix.detach().clone() for matrix in mine]
    optimizers = Muon(mine, lr=0.1), torch.optim.Muon(theirs, lr=0.1, weight_decay=0.0)
    for _ in range(3):
        for matrix, other in zip(mine, theirs, strict=True):
            matrix.grad = torch.randn(matrix.shape, generator=rng)
            other.grad = matrix.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for matrix, other, before in zip(mine, theirs, start, strict=True):
        moved = (matrix - before).norm()
        assert moved > 0.1
        assert (matrix - other).norm() < 0.02 * moved


def test_an_orthogonal_update_has_singular_values_near_one() -> None:
    values = torch.linalg.svdvals(orthogonal(torch.randn(40, 100, generator=torch.Generator().manual_seed(0))).float())
    assert 0.6 < values.min() <= values.max() < 1.3
