"""Checkpoints: ours survive the disk, the authors' are read, anything else is refused in a sentence."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from alit_cli.errors import InputError
from alit_cli.model.checkpoint import (
    Record,
    describe,
    read_alit,
    read_checkpoint,
    read_record,
    write_checkpoint,
)
from alit_cli.model.released.importing import import_released
from tests.model import golden, tiny


@pytest.mark.parametrize("codes", [0, 32])
@pytest.mark.parametrize("kind", ["vae", "vqgan"])
def test_a_checkpoint_describes_and_rebuilds_its_model(tmp_path: Path, kind: str, codes: int) -> None:
    model = tiny.model("vae" if kind == "vae" else "vqgan", codes)
    record = Record(model.config, ("base",), ({"stage": "base", "steps": 3},))
    sha256 = write_checkpoint(tmp_path / "m.safetensors", model, record)
    back = read_checkpoint(tmp_path / "m.safetensors")
    assert back.record == record
    assert back.sha256 == sha256
    assert not back.model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(back.model.state_dict()[name], tensor)
    assert describe(tmp_path / "m.safetensors")["parameters"] == sum(p.numel() for p in model.parameters())


def test_stages_that_were_repeated_are_counted() -> None:
    record = Record(tiny.config(), ("base", "distill", "finetune", "finetune", "finetune"))
    assert record.headline().endswith("; stages: base, distill, finetune ×3")


def test_float16_halves_the_file(tmp_path: Path) -> None:
    model = tiny.model()
    write_checkpoint(tmp_path / "full.safetensors", model, Record(model.config))
    write_checkpoint(tmp_path / "half.safetensors", model, Record(model.config), torch.float16)
    full, half = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half"))
    assert half < 0.65 * full
    assert read_alit(tmp_path / "half.safetensors")[0].encoder.positions.dtype == torch.float32


@pytest.mark.parametrize("variant", ["vqgan_quantized", "vae_continuous"])
def test_released_files_are_imported(tmp_path: Path, variant: str) -> None:
    weights = golden.weights(variant)
    released = {
        "model": {name: torch.zeros_like(tensor) for name, tensor in weights.items()},
        "ema": weights | {"gan_losses.0.discriminator.main.0.weight": torch.zeros(3)},
        "optimizer": {"state": {}},
        "epoch": 199,
        "args": argparse.Namespace(model="alit_tiny", batch_size=8),
    }
    torch.save(released, tmp_path / "released.pth")
    imported = import_released(tmp_path / "released.pth")
    model, record = imported.model, imported.record
    expected = golden.model(variant)
    assert record.alit_config.heads == 8  # from args.model: the count is not in the weights
    assert record.stages == ("imported",)
    # The authors' halting works with the VQGANs only.
    assert ("Table 1" in imported.summary) == variant.startswith("vqgan")
    for name, tensor in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    write_checkpoint(tmp_path / "ours.safetensors", model, record)
    assert read_record(tmp_path / "ours.safetensors").config == model.config


def test_heads_are_asked_for_where_nothing_tells(tmp_path: Path) -> None:
    torch.save({"ema": golden.weights("vqgan_quantized")}, tmp_path / "m.pth")
    with pytest.raises(InputError, match="--heads"):
        import_released(tmp_path / "m.pth")
    assert import_released(tmp_path / "m.pth", heads=4).record.alit_config.heads == 4


@pytest.mark.parametrize(("variant", "key"), [("vqgan_quantized", "state_dict"), ("vae_quantized", "model")])
def test_a_base_tokenizer_alone_is_imported(tmp_path: Path, variant: str, key: str) -> None:
    prefix = f"base_tokenizer.{variant.split('_')[0]}."
    alone = {k.removeprefix(prefix): v for k, v in golden.weights(variant).items() if k.startswith(prefix)}
    alone["loss.discriminator.main.0.weight"] = torch.zeros(3)
    torch.save({key: alone}, tmp_path / "base.ckpt")
    imported = import_released(tmp_path / "base.ckpt")
    model, record = imported.model, imported.record
    assert record.stages == ("base",)
    assert "Table 1" not in imported.summary
    assert model.autoencoder is not None
    for name, tensor in golden.model(variant).base.state_dict().items():
        assert torch.equal(model.autoencoder.state_dict()[name], tensor), name


class _Evil:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("print('ran')",)


def test_other_files_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": _Evil()}, tmp_path / "evil.pth")
    (tmp_path / "text.pth").write_text("hello")
    torch.save({"model": {"weight": torch.zeros(2)}}, tmp_path / "other.pth")
    sentences = {
        "evil.pth": "it holds eval, and could run code.$",
        "text.pth": "it is not what torch.save writes, or damaged.$",
        "other.pth": "It holds no tokenizer that alit knows",
        "missing.pth": "There is no file",
    }
    for name, sentence in sentences.items():
        with pytest.raises(InputError, match=sentence):
            import_released(tmp_path / name)
    assert "ran" not in capsys.readouterr().out
    save_file({"w": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    for name in ("foreign.safetensors", "text.pth", "missing.safetensors"):
        with pytest.raises(InputError):
            read_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    "lie",
    [
        {"width": -24},
        {"width": 24.5},
        {"layers": 100_000},
        {"layers": True},
        {"iterations": 100_000_000},
        {"image_size": 2**40},
        {"token_dim": 0},
        {"codes": 1.5},
        {"name": "\x1b[31mred"},
        {"name": "x" * 1000},
        {"base": {"channels": -8}},
        {"base": {"multipliers": [1] * 40}},
        {"base": {"latent_scale": float("nan")}},
        {"kind": "another"},
    ],
)
def test_a_configuration_that_lies_is_refused_at_once(tmp_path: Path, lie: dict[str, object]) -> None:
    values = tiny.config().to_dict()
    base = lie.pop("base", {})
    assert isinstance(base, dict)
    values = {**values, **lie, "base": {**values["base"], **base}}
    said = {"format": "alit-model", "version": 1, "config": values, "stages": []}
    save_file({"weight": torch.zeros(1)}, tmp_path / "lie.safetensors", {"alit": json.dumps(said)})
    with pytest.raises(InputError):
        read_record(tmp_path / "lie.safetensors")


@pytest.mark.parametrize("said", ["", "[]", "{}", '{"format": "alit-model"}', "[" * 100_000])
def test_metadata_that_is_none_of_ours_is_a_sentence(tmp_path: Path, said: str) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "m.safetensors", {"alit": said})
    with pytest.raises(InputError):
        read_record(tmp_path / "m.safetensors")
