"""What `alit import` makes of released files: each layout by its tensors, and a sentence for everything else."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch import Tensor

from alit_cli.cli import main
from alit_cli.errors import InputError
from alit_cli.model.checkpoint import read_base_weights, read_checkpoint, read_record
from alit_cli.model.released import alit as released_files
from alit_cli.model.released.hub import fetch
from alit_cli.model.released.importing import import_released
from tests.model import golden

Weights = dict[str, Tensor]


def released(folder: Path, variant: str, suffix: str = ".safetensors", weights: Weights | None = None) -> Path:
    """A folder as the hub has it: weights and, but for a VQGAN, config.json."""
    folder.mkdir(exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in (weights or golden.weights(variant)).items()}
    if suffix == ".safetensors":
        save_file(tensors, folder / "model.safetensors")
    else:
        torch.save(tensors, folder / f"weights{suffix}")
    if variant != "vqgan_alone":
        (folder / "config.json").write_text(json.dumps(golden.description(variant)["config"]))
    return folder


@pytest.mark.parametrize(
    ("variant", "suffix", "name", "budgets"),
    [
        ("titok_small", ".safetensors", "titok-128-32", (32,)),
        ("titok_vq8k_small", ".pth", "titok-128192-32-vq8k", (32,)),
        ("onedpiece_small", ".bin", "one-d-piece-128-256", tuple(range(32, 257, 32))),
        ("vqgan_alone", ".bin", "maskgit-vqgan", (256,)),
    ],
)
def test_a_released_folder_is_recognized(
    tmp_path: Path, variant: str, suffix: str, name: str, budgets: tuple[int, ...]
) -> None:
    folder = released(tmp_path / "hub", variant, suffix)
    out = tmp_path / "ours.safetensors"
    result = CliRunner().invoke(main, ["import", str(folder), "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "Found" in result.stderr
    config = read_record(out).config
    assert (config.name, config.budgets) == (name, budgets)
    model = read_checkpoint(out).model
    expected = golden.tokenizer(variant).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in model.state_dict().items())


def test_config_json_is_not_needed(tmp_path: Path) -> None:
    for variant in ("titok_small", "titok_vq8k_small", "onedpiece_small"):
        folder = released(tmp_path / variant, variant)
        with_config = import_released(folder).record.config
        (folder / "config.json").unlink()
        assert import_released(folder).record.config == with_config


def test_a_vqgan_of_either_layout_is_a_base_to_train_on(tmp_path: Path) -> None:
    maskgit = golden.weights("vqgan_alone")
    for layout in ("maskgit", "mage"):
        weights = maskgit if layout == "maskgit" else released_files.maskgit_as_mage(maskgit)
        folder = released(tmp_path / layout, "vqgan_alone", weights=weights)
        out = tmp_path / f"{layout}.safetensors"
        assert CliRunner().invoke(main, ["import", str(folder), "--out", str(out)]).exit_code == 0
        record = read_record(out)
        assert record.stages == ("base",)
        assert record.base_config.kind == "vqgan"
    one, other = (read_base_weights(tmp_path / f"{layout}.safetensors") for layout in ("maskgit", "mage"))
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_tensors_of_training_are_left_behind(tmp_path: Path) -> None:
    weights = golden.weights("titok_vq8k_small") | {"quantize.embed_prob": torch.zeros(8192)}
    folder = released(tmp_path / "hub", "titok_vq8k_small", weights=weights)
    assert "quantize.embed_prob" not in import_released(folder).model.state_dict()


def without(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: {key: tensor for key, tensor in weights.items() if key != name}


def with_tensor(name: str) -> Callable[[Weights], Weights]:
    return lambda weights: weights | {name: torch.zeros(2, 2)}


@pytest.mark.parametrize(
    ("variant", "change", "sentence"),
    [
        ("titok_small", with_tensor("decoder.text_guidance_proj.weight"), "TA-TiTok"),
        ("titok_small", without("quantize.embedding.weight"), "without a codebook"),
        ("titok_vq8k_small", without("decoder.conv_out.weight"), "no network that makes pixels"),
        ("titok_small", with_tensor("something.else"), "belongs to no released TiTok"),
        ("titok_small", without("encoder.ln_pre.weight"), "missing from the file"),
        ("titok_small", lambda weights: weights | {"latent_tokens": torch.zeros(7)}, "shape"),
        ("vqgan_alone", without("decoder.conv_in.weight"), "missing from the file"),
        ("vqgan_alone", lambda weights: weights | {"encoder.conv_in.weight": torch.zeros(3)}, "cannot be imported"),
        ("titok_small", lambda weights: weights | {"latent_tokens": weights["latent_tokens"] / 0}, "not finite"),
        ("titok_small", lambda weights: weights | {"latent_tokens": weights["latent_tokens"].int()}, "torch.int32"),
        ("vqgan_alone", lambda _weights: {"weight": torch.zeros(2)}, "no tokenizer that alit knows"),
    ],
)
def test_other_layouts_are_one_sentence(
    tmp_path: Path, variant: str, change: Callable[[Weights], Weights], sentence: str
) -> None:
    folder = released(tmp_path / "hub", variant, weights=change(golden.weights(variant)))
    result = CliRunner().invoke(main, ["import", str(folder), "--out", str(tmp_path / "ours.safetensors")])
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "ours.safetensors").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("codebook_size", 8192),
        ("token_size", 16),
        ("num_latent_tokens", 64),
        ("vit_enc_model_size", "large"),
        ("is_legacy", False),
        ("quantize_mode", "vae"),
    ],
)
def test_a_wrong_config_is_refused(tmp_path: Path, key: str, value: object) -> None:
    folder = released(tmp_path / "hub", "titok_small")
    config: dict[str, Any] = golden.description("titok_small")["config"]
    config["model"]["vq_model"][key] = value
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=key):
        import_released(folder)


def test_a_config_of_other_sections_is_refused(tmp_path: Path) -> None:
    folder = released(tmp_path / "hub", "titok_small")
    for config in ({"model": 3}, {"model": {"vq_model": [1]}}, {"dataset": "imagenet"}):
        (folder / "config.json").write_text(json.dumps(config))
        with pytest.raises(InputError, match="has no section"):
            import_released(folder)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "[1]", '"model"'])
def test_a_broken_config_is_refused(tmp_path: Path, text: str) -> None:
    folder = released(tmp_path / "hub", "titok_small")
    (folder / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"config\.json"):
        import_released(folder)


def test_truncated_and_unsafe_files_are_refused(tmp_path: Path) -> None:
    whole = released(tmp_path / "hub", "titok_small") / "model.safetensors"
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(whole.read_bytes()[:-1000])
    pickled = released(tmp_path / "pickled", "vqgan_alone", ".bin") / "weights.bin"
    cut_pickle = tmp_path / "cut.bin"
    cut_pickle.write_bytes(pickled.read_bytes()[:-1000])
    # A plain pickle, which torch did not write; the call would leave a file behind.
    unsafe, trace = tmp_path / "unsafe.bin", tmp_path / "trace"
    unsafe.write_bytes(b"cbuiltins\nopen\n(V" + str(trace).encode() + b"\nVw\ntR.")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a warning would be a second sentence
        for path in (cut, cut_pickle, unsafe, tmp_path / "missing.bin", tmp_path):
            with pytest.raises(InputError):
                import_released(path)
    assert not trace.exists()


def test_a_model_of_ours_is_told_to_be_one(tmp_path: Path) -> None:
    folder = released(tmp_path / "hub", "titok_small")
    out = tmp_path / "ours.safetensors"
    CliRunner().invoke(main, ["import", str(folder), "--out", str(out)])
    with pytest.raises(InputError, match="a model of alit already"):
        import_released(out)


@pytest.mark.parametrize("name", ["hf:", "hf:one", "hf:a/b/../../c", "hf:a b/c"])
def test_names_that_are_none_on_the_hub(name: str) -> None:
    with pytest.raises(InputError, match="no name on the hub"):
        fetch(name)


def test_without_a_network_the_hub_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")

    def offline(*_: object, **__: object) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr(hub, "snapshot_download", offline)
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch("hf:yucornetto/tokenizer_titok_l32_imagenet")


def test_a_name_on_the_hub_is_the_folder_it_was_fetched_to(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "snapshot_download", lambda _name, **_: str(tmp_path))
    assert fetch("hf:owner/name") == tmp_path
    assert fetch("hf:owner/name/weights.bin") == tmp_path / "weights.bin"
    assert fetch(tmp_path / "here.bin") == tmp_path / "here.bin"
