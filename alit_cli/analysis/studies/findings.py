"""What a study found, in sentences: every number is read from a csv file of the study, which is named beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from alit_cli.data.files import open_output

ALL = "all images"
UNIFORM, ORIGINALS = "uniform", "originals"
HALF = 0.5
"""The share of the largest capacity at which a study quotes what is kept."""


@dataclass(frozen=True)
class Number:
    """One number of a finding and where it stands: a csv file, its row (from 0, without the header) and its column."""

    value: float
    file: str
    row: int
    column: str


@dataclass(frozen=True)
class Finding:
    """One sentence and the numbers that it was made from."""

    topic: str
    sentence: str
    numbers: tuple[Number, ...]


@dataclass
class CsvRow:
    """One row of a csv file of a study; it remembers the numbers that were read from it."""

    file: str
    index: int
    values: pd.Series
    numbers: list[Number] = field(default_factory=list)

    def __getitem__(self, column: str) -> float:
        # Reading a number in a sentence records it, so that a finding cannot quote a number without its place.
        value = float(self.values[column])
        self.numbers.append(Number(value, self.file, self.index, column))
        return value

    def text(self, column: str) -> str:
        """A word of the row, such as the name of a criterion."""
        return str(self.values[column])


class CsvTable:
    """A csv file of a study."""

    def __init__(self, folder: Path, name: str) -> None:
        path = folder / name
        # A study may leave steps out, so a file that is missing is an empty table and gives no finding.
        self.name, self.table = name, pd.read_csv(path) if path.exists() else pd.DataFrame()

    def rows(self, **wanted: object) -> list[CsvRow]:
        """The rows whose columns hold these values, in the order of the file."""
        table = self.table
        for column, value in wanted.items():
            table = table[table[column] == value] if column in table else table.iloc[:0]
        # The index of the whole file is kept, also after rows were dropped, because findings name the row.
        return [CsvRow(self.name, int(str(index)), row) for index, row in table.iterrows()]


def collect_findings(folder: Path) -> list[Finding]:
    """The findings of every analysis that left its csv file in the folder of a study, in the order of a study."""
    # This is the order in which findings are read: first the pictures, then what they are good for.
    topics = (_quality, _capacity, _choosing, _strength, _complexity, _familiarity, _attention, _probe)
    return [finding for topic in topics for finding in topic(folder)]


def save_findings(findings: list[Finding], folder: Path, remarks: list[str]) -> list[Path]:
    """Write findings.md and findings.json; what `open_output` raises.

    Args:
        remarks: sentences on steps that the study had to leave out.
    """
    markdown, plain = folder / "findings.md", folder / "findings.json"
    lines = ["<!-- alit-output: study -->", "# Findings", ""]
    for finding in findings:
        files = sorted({number.file for number in finding.numbers})
        lines.append(f"- {finding.sentence} ({', '.join(files)})")
    if remarks:
        lines += ["", "## Left out", "", *(f"- {remark}" for remark in remarks)]
    with open_output(markdown, "study") as file:
        file.write(("\n".join(lines) + "\n").encode())
    content = {
        "alit-output": "study",
        "findings": [
            {
                "topic": finding.topic,
                "sentence": finding.sentence,
                "numbers": [vars(number) for number in finding.numbers],
            }
            for finding in findings
        ],
        "left_out": remarks,
    }
    with open_output(plain, "study") as file:
        file.write((json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode())
    return [markdown, plain]


def _quality(folder: Path) -> Iterator[Finding]:
    """The error at the smallest and largest budget, beside thumbnails of as many bits."""
    table = CsvTable(folder, "quality.csv")
    tokens = table.rows(system="tokens")
    if not tokens:
        return
    first, last = tokens[0], tokens[-1]
    sentence = (
        f"From {first['budget']:.0f} to {last['budget']:.0f} tokens, the mean L1 error of {last['images']:.0f} images "
        f"goes from {first['l1']:.4g} to {last['l1']:.4g}"
    )
    used = [first, last]
    # `values` looks without recording: only numbers that are quoted belong to the finding.
    if "psnr" in table.table and not math.isnan(float(last.values["psnr"])):
        sentence += f", and the PSNR from {first['psnr']:.4g} to {last['psnr']:.4g} dB"
    thumbs = [row for row in table.rows(system="thumb") if not math.isnan(float(row.values["l1"]))]
    if thumbs:
        # The last budget is the hardest comparison that thumbnails can stand.
        thumb = thumbs[-1]
        used.append(thumb)
        sentence += f"; a thumbnail of as many bits as {thumb['budget']:.0f} tokens has an error of {thumb['l1']:.4g}"
    yield _finding("quality", f"{sentence}.", used)


def _capacity(folder: Path) -> Iterator[Finding]:
    """What half of the tokens keep of every outcome, if every image gets the same number."""
    table = CsvTable(folder, "capacity.csv")
    uniform = table.rows(group=ALL, line=UNIFORM)
    for outcome in dict.fromkeys(row.text("outcome") for row in uniform):
        if outcome.partition("@")[0] in ("frechet", "psnr"):
            continue  # a distance of few images is biased, and the PSNR stands with the quality
        points = [row for row in uniform if row.text("outcome") == outcome and _known(row, "value")]
        # With one point there is nothing to set it against.
        if len(points) < 2:
            continue
        full = max(points, key=lambda row: float(row.values["capacity"]))
        half = min(points, key=lambda row: abs(float(row.values["capacity"]) - HALF))
        name = _outcome(outcome)
        sentence = (
            f"At {half['mean_tokens']:.4g} tokens per image ({half['capacity']:.0%} of the largest capacity), "
            f"{name} is {_interval(half, outcome)}, against {_interval(full, outcome)} at "
            f"{full['mean_tokens']:.4g} tokens"
        )
        used = [half, full]
        # The originals have no tokens, so they show what the network can do at all.
        originals = [row for row in table.rows(group=ALL, line=ORIGINALS, outcome=outcome) if _known(row, "value")]
        if originals:
            sentence += f" and {_interval(originals[0], outcome)} on the originals"
            used.append(originals[0])
        # A share of an accuracy that may be zero says nothing.
        if outcome.startswith("top") and _known(full, "low") and float(full.values["low"]) > 0:
            kept = float(half.values["value"]) / float(full.values["value"])
            sentence += f": {kept:.0%} of the accuracy is kept"
        yield _finding("capacity", f"{sentence}.", used)


def _choosing(folder: Path) -> Iterator[Finding]:
    """Whether budgets that a network chose are better than one budget for all in the eyes of another network."""
    table = CsvTable(folder, "capacity.csv")
    choosers = [
        line for line in dict.fromkeys(row.text("line") for row in table.rows(group=ALL)) if line.startswith("classify")
    ]
    outcomes = dict.fromkeys(row.text("outcome") for row in table.rows(group=ALL))
    for line in choosers:
        for outcome in outcomes:
            judge = outcome.partition("@")[2]
            if not outcome.startswith("top1@") or judge == line.partition("@")[2]:
                continue  # a network that judges its own choice counts its lucky guesses as gained
            chosen = [row for row in table.rows(group=ALL, line=line, outcome=outcome) if _known(row, "value")]
            uniform = [row for row in table.rows(group=ALL, line=UNIFORM, outcome=outcome) if _known(row, "value")]
            if not chosen or not uniform:
                continue
            point = min(chosen, key=lambda row: abs(float(row.values["capacity"]) - HALF))
            # The uniform budget nearest in tokens is the fair rival; exactly equal ones are rare.
            other = min(uniform, key=lambda row: abs(float(row.values["capacity"]) - float(point.values["capacity"])))
            yield _finding(
                "capacity",
                f"Where {line.partition('@')[2]} chooses the budgets ({point.text('criterion')}, "
                f"{point['capacity']:.0%} of the largest capacity), the top-1 accuracy of {judge}, which did not "
                f"choose, is {_interval(point, outcome)}; one budget for all at {other['capacity']:.0%} gives "
                f"{_interval(other, outcome)}.",
                [point, other],
            )


def _strength(folder: Path) -> Iterator[Finding]:
    """What the weakest and the strongest network lose at the smallest budget."""
    rows = [row for row in CsvTable(folder, "strength.csv").rows() if _known(row, "drop")]
    if not rows:
        return
    smallest = min(float(row.values["budget"]) for row in rows)
    # The weakest and the strongest differ most, and everything between follows from the table.
    rows = sorted(
        (row for row in rows if float(row.values["budget"]) == smallest), key=lambda row: float(row.values["strength"])
    )
    weak, strong = rows[0], rows[-1]
    yield _finding(
        "strength",
        f"At {weak['budget']:.0f} tokens, {strong.text('model')} ({strong['strength']:.1%} on the originals) loses "
        f"{_points(strong)}, and {weak.text('model')} ({weak['strength']:.1%}) loses {_points(weak)}.",
        [weak, strong],
    )


def _complexity(folder: Path) -> Iterator[Finding]:
    """How closely the code length follows the scores, beside JPEG bytes."""
    table = CsvTable(folder, "complexity.csv")
    # Pooling within groups is right also where the groups have scales of their own.
    # Scores without groups, or with a single one, have the scope "group" alone.
    scope = next((scope for scope in ("overall", "raw") if table.rows(scope=scope)), "group")
    codes = [row for row in table.rows(scope=scope, kind="code length") if _known(row, "pearson")]
    if not codes:
        return
    code = codes[-1]
    sentence = (
        f"The code length at {code['budget']:.0f} tokens correlates with the scores at r = {_correlation(code)} "
        f"over {code['n']:.0f} images"
    )
    used = [code]
    plain = [row for row in table.rows(scope=scope, measure="jpeg_bytes") if _known(row, "pearson")]
    if plain:
        sentence += f"; JPEG bytes at r = {_correlation(plain[0])}"
        used.append(plain[0])
    yield _finding("complexity", f"{sentence}.", used)


def _familiarity(folder: Path) -> Iterator[Finding]:
    """The tokens that each set of images needs."""
    rows = CsvTable(folder, "familiarity.csv").rows()
    thresholds = sorted({float(row.values["threshold"]) for row in rows})
    # One threshold is enough, as the csv file has all: the middle one, at which the sets differ most clearly.
    for threshold in thresholds[len(thresholds) // 2 :][:1]:
        sets = [row for row in rows if float(row.values["threshold"]) == threshold]
        parts = [
            f"{row.text('set')} needs {row['mean_tokens']:.4g} tokens "
            f"({row['tokens_low']:.4g} to {row['tokens_high']:.4g})"
            for row in sets
        ]
        if len(sets) > 1:
            yield _finding(
                "familiarity", f"For an L1 error below {sets[0]['threshold']:.4g}, {' and '.join(parts)}.", sets
            )


def _attention(folder: Path) -> Iterator[Finding]:
    """Whether the tokens' regions fit segments better than chance at the last iteration."""
    table = CsvTable(folder / "attention", "attention.csv")
    # The findings name the file as it is seen from the folder of the study.
    table.name = "attention/attention.csv"
    for measure in dict.fromkeys(row.text("measure") for row in table.rows()):
        gains = table.rows(measure=measure)
        name = measure.removeprefix("gain_")
        own, chance = table.rows(measure=f"iou_{name}"), table.rows(measure=f"chance_{name}")
        if measure.startswith("gain_") and own and chance:
            gain, with_own, with_others = gains[-1], own[-1], chance[-1]
            yield _finding(
                "attention",
                f"The best region of {with_own['tokens']:.0f} tokens fits segments with a mean IoU of "
                f"{with_own['mean']:.3f}; the maps of other images reach {with_others['mean']:.3f}, and the difference "
                f"is {gain['mean']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f}).",
                [with_own, gain, with_others],
            )
            return  # further regions are in the table


def _probe(folder: Path) -> Iterator[Finding]:
    """What a linear classifier reads from the latents of the last iteration."""
    table = CsvTable(folder / "probe", "probe.csv")
    table.name = "probe/probe.csv"
    latents, pixels = table.rows(pool="latents"), table.rows(pool="pixels")
    if latents and pixels:
        last, raw = latents[-1], pixels[0]
        yield _finding(
            "probe",
            f"A linear probe on the mean of {last['tokens']:.0f} latents reaches {last['accuracy']:.1%} top-1 "
            f"({last['low']:.1%} to {last['high']:.1%}); raw pixels reach {raw['accuracy']:.1%}, and chance is "
            f"{last['chance']:.1%}.",
            [last, raw],
        )


def _finding(topic: str, sentence: str, rows: list[CsvRow]) -> Finding:
    # A number that is quoted twice in a sentence is listed once.
    numbers = dict.fromkeys(number for row in rows for number in row.numbers)
    return Finding(topic, sentence, tuple(numbers))


def _known(row: CsvRow, column: str) -> bool:
    return column in row.values and not math.isnan(float(row.values[column]))


def _outcome(name: str) -> str:
    """An outcome in a sentence: `top1@x` is the top-1 accuracy of x."""
    kind, at, network = name.partition("@")
    if kind.startswith("top"):
        return f"the top-{kind[3:]} accuracy of {network}" if at else f"the top-{kind[3:]} accuracy"
    plain = {"l1": "the mean L1 error", "psnr": "the mean PSNR", "depth_error": "the mean depth error"}
    return plain.get(kind, f"the mean {kind}") + (f" of {network}" if at else "")


def _interval(row: CsvRow, outcome: str) -> str:
    """The value of a row with its 95 % interval, where it has one; shares as percentages."""
    form = ".1%" if outcome.startswith("top") or "<" in outcome or ">" in outcome else ".4g"
    value = format(row["value"], form)
    if not _known(row, "low"):
        return value
    return f"{value} ({format(row['low'], form)} to {format(row['high'], form)})"


def _points(row: CsvRow) -> str:
    return f"{100 * row['drop']:.1f} points ({100 * row['drop_low']:.1f} to {100 * row['drop_high']:.1f})"


def _correlation(row: CsvRow) -> str:
    return f"{row['pearson']:.2f} ({row['pearson_low']:.2f} to {row['pearson_high']:.2f})"
