"""Whether a vision–language model (BLIP) still gives the same answers, or finds a caption as likely."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from alit_cli.data.annotations.frames import IMAGE_NAMES, find_column, read_frame
from alit_cli.data.annotations.matching import match
from alit_cli.data.tables.score_table import Measure
from alit_cli.errors import InputError
from alit_cli.tasks.base import Batch, Request, Task, Values, digest_of
from alit_cli.tasks.network import Network, load_network, quiet_transformers

ANSWERS, CAPTIONS = "BlipForQuestionAnswering", "BlipForConditionalGeneration"
QUESTION_NAMES = ("question", "questions", "prompt", "query")
ANSWER_NAMES = ("answer", "answers", "expected")
CAPTION_NAMES = ("caption", "captions", "text", "description")
LONGEST = 20
"""Tokens of an answer or of a caption that the model writes itself."""


@dataclass(frozen=True)
class Line:
    """One line of a questions file: a question with the answer that is expected, or a caption."""

    text: str
    answer: str | None = None


Lines = list[list[Line]]
"""The lines about each image."""


class Answers(Task[Lines]):
    """The share of an image's questions that the model answers as expected.

    An answer that the file does not give is what the model says of the original. Capitals, articles and signs do not
    count. An image without questions has no number.
    """

    def __init__(self, network: Network, tokenizer: Any, lines: Lines) -> None:
        self.network, self.tokenizer, self.lines = network, tokenizer, lines
        # Where no answer is given, the original's own answers are the truth, and its agreement would always be 1.
        given = any(line.answer is not None for some in lines for line in some)
        self.measures = (Measure("answer_agreement", original=given),)
        self.options = _options(network, lines)
        self.given = given

    def look(self, batch: Batch) -> tuple[Lines, Values]:
        """The questions with the answers that are expected; the share of them that the original gets."""
        lines = [self.lines[row] for row in batch.rows]
        answers = self._ask(batch.images, lines)
        expected = [
            # `or` also takes an answer that has become empty, such as one of articles only, for one that was not given.
            [Line(line.text, line.answer or answer) for line, answer in zip(some, said, strict=True)]
            for some, said in zip(lines, answers, strict=True)
        ]
        values = {"answer_agreement_original": _agreement(expected, answers)} if self.given else {}
        return expected, values

    def score(self, seen: Lines, pictures: Tensor, budget: int) -> Values:
        """The share of the questions that a reconstruction gets."""
        return {"answer_agreement": _agreement(seen, self._ask(pictures, seen))}

    @torch.no_grad()
    def _ask(self, images: Tensor, lines: Lines) -> list[list[str]]:
        """The model's answer to every question."""
        pixels, answers = self.network.pixels(images), list[str]()
        owners, texts = _flat(lines)
        # An image may have any number of questions; so many at once as there are images keeps memory bounded.
        for start in range(0, len(texts), len(images)):
            chosen = slice(start, start + len(images))
            words = self.tokenizer(texts[chosen], padding=True, truncation=True, return_tensors="pt")
            said = self.network.model.generate(
                pixel_values=pixels[owners[chosen]],
                input_ids=words.input_ids.to(self.network.device),
                attention_mask=words.attention_mask.to(self.network.device),
                max_new_tokens=LONGEST,
                # Greedy decoding, so that the same picture always gets the same answer.
                do_sample=False,
            )
            answers += self.tokenizer.batch_decode(said, skip_special_tokens=True)
        # The answers come as one flat list in the order of `_flat`; here they go back to their images.
        remaining = iter(answers)
        return [[plain(next(remaining)) for _ in some] for some in lines]


class Captions(Task[Lines]):
    """The mean log-likelihood of a caption's tokens given the picture, in nats; of several captions, their mean.

    Where the file gives none, the caption is the one that the model itself writes about the original.
    """

    measures = (Measure("caption_loglik", original=True),)

    def __init__(self, network: Network, tokenizer: Any, lines: Lines | None) -> None:
        self.network, self.tokenizer, self.lines = network, tokenizer, lines
        self.options = _options(network, lines)

    def look(self, batch: Batch) -> tuple[Lines, Values]:
        """The captions, and how likely the original makes them."""
        lines = self._write(batch.images) if self.lines is None else [self.lines[row] for row in batch.rows]
        return lines, {"caption_loglik_original": self._likelihood(batch.images, lines)}

    def score(self, seen: Lines, pictures: Tensor, budget: int) -> Values:
        """How likely a reconstruction makes them."""
        return {"caption_loglik": self._likelihood(pictures, seen)}

    @torch.no_grad()
    def _write(self, images: Tensor) -> Lines:
        said = self.network.model.generate(
            pixel_values=self.network.pixels(images), max_new_tokens=LONGEST, do_sample=False
        )
        return [[Line(text)] for text in self.tokenizer.batch_decode(said, skip_special_tokens=True)]

    @torch.no_grad()
    def _likelihood(self, images: Tensor, lines: Lines) -> list[float | None]:
        """One number per image, None where there is no caption."""
        pixels, losses = self.network.pixels(images), list[float]()
        owners, texts = _flat(lines)
        # As many captions at once as there are images, to keep memory bounded.
        for start in range(0, len(texts), len(images)):
            chosen = slice(start, start + len(images))
            words = self.tokenizer(texts[chosen], padding=True, truncation=True, return_tensors="pt")
            ids, there = words.input_ids.to(self.network.device), words.attention_mask.to(self.network.device)
            # BLIP's decoder was trained to begin with its own token, where its tokenizer writes that of BERT.
            ids[:, 0] = self.network.model.config.text_config.bos_token_id
            logits = self.network.model(
                pixel_values=pixels[owners[chosen]], input_ids=ids, attention_mask=there
            ).logits.float()
            # The logits at a token predict the next one, and padding does not count.
            each = logits[:, :-1].log_softmax(dim=2).gather(2, ids[:, 1:, None])[..., 0]
            losses += ((each * there[:, 1:]).sum(dim=1) / there[:, 1:].sum(dim=1).clamp(min=1)).tolist()
        # The numbers come in the order of `_flat`, as the answers of `_ask` do.
        remaining = iter(losses)
        return [_average([next(remaining) for _ in some]) for some in lines]


def build(request: Request) -> Answers | Captions:
    """The task that the network was made for: answering questions, or writing captions."""
    transformers = quiet_transformers()
    kind = _architecture(transformers, request.model)
    network = load_network(request, kind)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(request.model, trust_remote_code=False)
    except Exception as problem:
        raise InputError(f"'{request.model}' has no tokenizer that transformers can read.") from problem
    if kind == CAPTIONS:
        lines = read_lines(request.questions, request.images, CAPTION_NAMES) if request.questions else None
        return Captions(network, tokenizer, lines)
    if request.questions is None:
        raise InputError(
            f"'{request.model}' answers questions: give a csv or parquet file of them with --questions "
            "(columns question and, as you like, image and answer)."
        )
    return Answers(network, tokenizer, read_lines(request.questions, request.images, QUESTION_NAMES))


def read_lines(file: Path, images: Sequence[str], names: Sequence[str]) -> Lines:
    """The questions or captions of each image; a file without a column of images is about all of them.

    Raises:
        InputError: the file or a column cannot be read, or none of its images is in the table.
    """
    # The second of the names is the plural, which errors use.
    frame = read_frame(file, names[1])
    text = find_column(frame, None, names, names[1], f"the header '{names[0]}'", file)
    answer = _optional(frame, ANSWER_NAMES, file)
    image = _optional(frame, IMAGE_NAMES, file)
    frame = frame[frame[text].notna()]
    answers = (
        [None] * len(frame)
        if answer is None
        else [None if pd.isna(value) else plain(str(value)) for value in frame[answer]]
    )
    written = [Line(str(cell), said) for cell, said in zip(frame[text], answers, strict=True)]
    if image is None:
        return [list(written) for _ in images]
    # `match` refuses a name that is there twice, but several questions about one image are usual.
    keys = frame[image].astype(str).to_list()
    unique = list(dict.fromkeys(keys))
    pairs = match(unique, images, names[1])
    if not len(pairs.names):
        raise InputError(
            f"None of the {names[1]} in {file} (such as about '{unique[0]}') is about an image of the table."
        )
    rows = dict(zip([unique[name] for name in pairs.names], pairs.keys.tolist(), strict=True))
    lines: Lines = [[] for _ in images]
    for key, line in zip(keys, written, strict=True):
        if key in rows:
            lines[rows[key]].append(line)
    return lines


def plain(answer: str) -> str:
    """An answer without capitals, signs and articles."""
    words = re.sub(r"[\W_]+", " ", answer).casefold().split()
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def _optional(frame: pd.DataFrame, names: Sequence[str], file: Path) -> str | None:
    try:
        # A column that is not required may be missing, so its error, and the words for it, are not used.
        return find_column(frame, None, names, "", "", file)
    except InputError:
        return None


def _architecture(transformers: Any, source: str) -> str:
    try:
        named = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False).architectures or []
    except Exception:
        return ANSWERS  # loading it will say what is wrong
    if named and named[0] not in (ANSWERS, CAPTIONS):
        raise InputError(f"'{source}' is a {named[0]}; the language task takes {ANSWERS} or {CAPTIONS}.")
    return str(named[0]) if named else ANSWERS


def _flat(lines: Lines) -> tuple[list[int], list[str]]:
    """Every text, and which image of the batch it is about."""
    pairs = [(index, line.text) for index, some in enumerate(lines) for line in some]
    return [index for index, _ in pairs], [text for _, text in pairs]


def _agreement(expected: Lines, answers: list[list[str]]) -> list[float | None]:
    return [
        _average([float(line.answer == answer) for line, answer in zip(some, said, strict=True)])
        for some, said in zip(expected, answers, strict=True)
    ]


def _average(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _options(network: Network, lines: Lines | None) -> dict[str, Any]:
    return {"network": network.digest, "lines_digest": digest_of(lines)}
