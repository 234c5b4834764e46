"""Real networks of transformers, tiny and with random weights, written into folders as save_pretrained does."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[DEC]",
    "what",
    "is",
    "this",
    "a",
    "cat",
    "dog",
    "photo",
    "of",
    "the",
    "red",
    "it",
    "yes",
    "no",
    "?",
]


def transformers() -> Any:
    """The library; its annotations have gaps."""
    return importlib.import_module("transformers")


def smooth_images(count: int = 3, side: int = 32) -> torch.Tensor:
    """Smooth pictures of whole 8-bit values, b 3 h w in [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(count, 3, 6, 6, generator=generator)
    large = torch.nn.functional.interpolate(small, (side, side), mode="bicubic").clamp(0, 1)
    return large.mul(255).round() / 255


def processor(folder: Path, side: int = 32) -> None:
    """A square resize and ImageNet's normalisation."""
    transformers().ViTImageProcessorPil(size={"height": side, "width": side}).save_pretrained(folder)


def classifier(folder: Path, names: Sequence[str], seed: int = 0) -> Any:
    """A ResNet of a few thousand weights, untrained."""
    torch.manual_seed(seed)
    config = transformers().ResNetConfig(
        embedding_size=16,
        hidden_sizes=[16, 32],
        depths=[1, 1],
        layer_type="basic",
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    model = transformers().ResNetForImageClassification(config).eval()
    model.save_pretrained(folder)
    processor(folder)
    return model


def vit(folder: Path, pooler: bool = True) -> Any:
    """A ViT backbone, with or without its pooler."""
    torch.manual_seed(0)
    config = transformers().ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    model = transformers().ViTModel(config, add_pooling_layer=pooler).eval()
    model.save_pretrained(folder)
    processor(folder)
    return model


def depth_estimator(folder: Path) -> Any:
    """A Depth Anything on a one-layer DINOv2."""
    torch.manual_seed(0)
    backbone = transformers().Dinov2Config(
        hidden_size=16,
        num_hidden_layers=4,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        out_features=["stage1", "stage2", "stage3", "stage4"],
        reshape_hidden_states=False,
    )
    config = transformers().DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=16,
        neck_hidden_sizes=[8, 8, 8, 8],
        fusion_hidden_size=8,
        head_hidden_size=8,
        head_in_channels=8,
        patch_size=14,
    )
    model = transformers().DepthAnythingForDepthEstimation(config).eval()
    with torch.no_grad():  # untrained, its depths would be zero nearly everywhere
        for weights in model.head.parameters():
            weights.normal_(0.1, 0.3)
    model.save_pretrained(folder)
    processor(folder, 42)
    return model


def blip(folder: Path, answers: bool) -> Any:
    """A BLIP that answers questions, or one that writes captions."""
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    text = {"vocab_size": len(WORDS), "encoder_hidden_size": 16, "max_position_embeddings": 32, **small}
    ids = {"bos_token_id": 5, "eos_token_id": 3, "pad_token_id": 0, "sep_token_id": 3}
    config = transformers().BlipConfig(
        text_config=text | ids, vision_config={"image_size": 32, "patch_size": 8, **small}
    )
    kind = "BlipForQuestionAnswering" if answers else "BlipForConditionalGeneration"
    model = getattr(transformers(), kind)(config).eval()
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers().BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    processor(folder)
    return model
