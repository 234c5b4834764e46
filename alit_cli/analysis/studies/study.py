"""A whole study of one folder of images as a list of steps, each of them a command that can also be typed by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from alit_cli.errors import InputError

TOKENS, SCORES, PAGE = "tokens.parquet", "scores", "report.html"
"""Files and folder of a study, in its own folder."""
RECORD = ".study.json"
"""The file in the study's folder that says which steps are done; a hidden one, so that no panel or table shows it."""
FORMAT = "alit-study/1"

Stamp = tuple[str, int, int]
"""A file as it looks from outside: its name, its bytes, and its time of change in ns."""


@dataclass(frozen=True)
class StudyJob:
    """What a study looks at, with which networks, and where everything goes.

    Attributes:
        images: as `alit tokenize` takes them.
        out: the folder of all tables, figures, findings and the page.
        labels: true classes, a file or 'folders'; None is none.
        classify: networks that choose budgets by the rank of the true class.
        judge: networks that only judge what others have chosen.
        depth, features: networks of these tasks; depth_maps: a folder of true maps.
        masks: a folder of label maps for the attention of tokens.
        complexity: a file of scores of complexity.
        against: other images, each set compared with the first.
        checkpoint: a model file; None is the embedded model.
        device: as the commands take it. limit: only the first so many images.
        bootstrap: resamples of every interval. form, figure_size: of the figures.
    """

    images: tuple[str, ...]
    out: Path
    labels: str | None = None
    classify: tuple[str, ...] = ()
    judge: tuple[str, ...] = ()
    depth: str | None = None
    depth_maps: str | None = None
    features: str | None = None
    masks: str | None = None
    complexity: str | None = None
    against: tuple[str, ...] = ()
    checkpoint: str | None = None
    device: str = "auto"
    limit: int | None = None
    bootstrap: int = 1000
    form: str = "png"
    figure_size: str = "wide"

    @property
    def networks(self) -> tuple[str, ...]:
        """All classifiers, each once, those that choose first."""
        # A network may choose and judge, but it is scored once.
        return tuple(dict.fromkeys((*self.classify, *self.judge)))


@dataclass(frozen=True)
class Step:
    """One command of a study.

    Attributes:
        name: what the step is called; unique in a study.
        words: the command, as it is typed after `alit`.
        reads: files that the command reads; when one of them changes, the step is done again.
        writes: files that must be there for the step to count as done.
        passes: how often it takes every image through a model, for an estimate of its time; 0 where it reads tables.
        always: the command itself knows what is left to do, and looks for new images; it is always called.
        optional: the study goes on without it where the command refuses, for example because there are too few images.
    """

    name: str
    words: tuple[str, ...]
    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    passes: float = 0
    always: bool = False
    optional: bool = True


def plan_steps(job: StudyJob) -> list[Step]:
    """The steps of a study in their order; only those that the job gives something to work with.

    Raises:
        InputError: two networks or two sets of images would write the same file.
    """
    names = [network_name(network) for network in job.networks]
    # The last part of a path names the score table, so two networks of one name would share a file.
    if len(set(names)) < len(names):
        raise InputError("Two classifiers have the same name; rename one of their folders, since it names the scores.")
    tokens = job.out / TOKENS
    words = ("tokenize", *job.images, "--out", str(tokens), *_model(job), *_given("--limit", job.limit))
    # Tokenizing continues where it ended and finds new images itself, so its step is always called.
    steps = [
        Step("tokenize", words, writes=(tokens,), passes=1, always=True, optional=False),
        _score_step(job, tokens),
    ]
    # The score step is the second one, and its tables are what the analyses read.
    steps += _table_steps(job, tokens, (tokens, *steps[1].writes))
    steps += _familiarity_steps(job, tokens)
    steps += _image_steps(job, tokens)
    # The page shows the tables of all steps before it, so it is made again when one of them is.
    shown = tuple(file for step in steps for file in step.writes)
    page = job.out / PAGE
    # Without --scores the page would also look where the study was started, and remark on scores that lie there.
    read = ("--beside", str(job.out), "--scores", str(job.out / SCORES))
    view = ("view", str(tokens), *read, "--out", str(page), *_model(job))
    # The page decodes pictures of a sample of the images, which is estimated as half a pass.
    return [*steps, Step("view", view, shown, (page,), passes=0.5, optional=False)]


def _table_steps(job: StudyJob, tokens: Path, tables: tuple[Path, ...]) -> Iterator[Step]:
    """The analyses that read only the token table and the score tables."""
    scores = ("--scores", str(job.out / SCORES))
    quality = ("analyze", "quality", str(tokens), *scores, *_output(job, job.out))
    yield Step("quality", quality, tables, _tables(job.out, "quality"))
    ends = (*_output(job, job.out), "--bootstrap", str(job.bootstrap))
    capacity = ("analyze", "capacity", str(tokens), *scores, *_lines(job), *ends)
    yield Step("capacity", capacity, tables, _tables(job.out, "capacity"))
    # Strength is a comparison of networks, and it needs true labels.
    if job.labels and len(job.networks) > 1:
        strength = ("analyze", "strength", "--task", "classify", str(tokens), *scores, *ends)
        yield Step("strength", strength, tables, _tables(job.out, "strength"))
    if job.complexity:
        complexity = ("analyze", "complexity", job.complexity, str(tokens), *ends)
        yield Step("complexity", complexity, (tokens, Path(job.complexity)), _tables(job.out, "complexity"))


def _image_steps(job: StudyJob, tokens: Path) -> Iterator[Step]:
    """The analyses that take the images through the model again."""
    images = (*job.images, *_model(job), *_given("--limit", job.limit))
    if job.masks:
        folder = job.out / "attention"
        words = ("analyze", "attention", *images, "--masks", job.masks, *_output(job, folder))
        yield Step("attention", words, (tokens,), _tables(folder, "attention"), passes=1)
    if job.labels:
        folder = job.out / "probe"
        words = ("analyze", "probe", *images, "--labels", job.labels, *_output(job, folder))
        yield Step("probe", words, (tokens, *_file_of(job.labels)), _tables(folder, "probe"), passes=1)


def _score_step(job: StudyJob, tokens: Path) -> Step:
    """One pass over the images for all tasks that the job gives networks for."""
    scores = job.out / SCORES
    wanted = {"classify": job.networks, "depth": _some(job.depth), "features": _some(job.features)}
    tasks = ["recon", "baselines", *(task for task, networks in wanted.items() if networks)]
    words = ["score", str(tokens), "--out", str(scores), "--task", ",".join(tasks)]
    for task, networks in wanted.items():
        words += [word for network in networks for word in ("--model", f"{task}={network}")]
    if job.networks:
        words += _given("--labels", job.labels)
    if job.depth:
        words += _given("--depth-maps", job.depth_maps)
    writes = [scores / "recon.parquet", scores / "baselines.parquet"]
    writes += [
        scores / f"{task}@{network_name(network)}.parquet" for task, networks in wanted.items() for network in networks
    ]
    # Labels count as read only where a classifier was scored by them.
    reads = (tokens, *(_file_of(job.labels) if job.networks else ()))
    passes = 1 + sum(len(networks) for networks in wanted.values())
    return Step("score", (*words, *_model(job)), reads, tuple(writes), passes, optional=False)


def _lines(job: StudyJob) -> tuple[str, ...]:
    """The criteria and outcomes of the capacity step: everything that was scored."""
    criteria = ["recon", *(f"classify@{network_name(network)}" for network in job.classify)]
    # Judges stand among the outcomes only: they have chosen no budget.
    outcomes = ["recon", "psnr", *(f"top1@{network_name(network)}" for network in job.networks)]
    if job.depth:
        criteria.append("depth")
        outcomes.append("depth")
    if job.features:
        outcomes.append("features")
    # Too few images should not cost the study this whole step, so a biased distance is allowed.
    few = ("--few-samples",) if job.features else ()
    return ("--tsc", ",".join(criteria), "--toi", ",".join(outcomes), *few)


def _familiarity_steps(job: StudyJob, tokens: Path) -> Iterator[Step]:
    """Other sets of images: each is tokenized to a table of its name, then all are compared with the first.

    With a network of features every set is scored by it too, in a folder of its own, for the Fréchet distances.
    """
    others: list[Path] = []
    scores = [job.out / SCORES]
    for images in job.against:
        name = _name_of(images)
        table = job.out / f"{name}.parquet"
        # The token table of the study itself is among the names that are taken.
        if table in [tokens, *others]:
            raise InputError(f"'{images}' would be tokenized to {table}, which is another set's; rename the folder.")
        others.append(table)
        words = ("tokenize", images, "--out", str(table), *_model(job), *_given("--limit", job.limit))
        yield Step(f"tokenize {name}", words, writes=(table,), passes=1, always=True, optional=False)
        if job.features:
            scores.append(job.out / f"{SCORES}-{name}")
            network = ("--task", "features", "--model", f"features={job.features}", *_model(job))
            features = scores[-1] / f"features@{network_name(job.features)}.parquet"
            words = ("score", str(table), "--out", str(scores[-1]), *network)
            yield Step(f"score {name}", words, (table,), (features,), passes=2, optional=False)
    if others:
        own = _name_of(job.images[0])
        # The sets are told apart by their names, and the study's own table is called `tokens`, which says nothing.
        names = [own if own not in [other.stem for other in others] else "images", *(other.stem for other in others)]
        given = [word for folder in scores for word in ("--scores", str(folder))] if job.features else []
        few = ("--few-samples",) if job.features else ()
        ends = (*_output(job, job.out), "--bootstrap", str(job.bootstrap))
        words = ("analyze", "familiarity", str(tokens), *map(str, others), "--names", ",".join(names), *given, *few)
        read = [folder / f"features@{network_name(job.features)}.parquet" for folder in scores] if job.features else []
        yield Step("familiarity", (*words, *ends), (tokens, *others, *read), _tables(job.out, "familiarity"))


def _name_of(images: str) -> str:
    """What a set of images is called: the last part of its path, without its suffix and the comma that parts names."""
    return Path(images.rstrip("/").lstrip("@")).name.partition(".")[0].replace(",", "-") or "others"


def network_name(network: str) -> str:
    """What a network is called in the names of score tables: the last part of its path or hub id."""
    return network.rstrip("/").rpartition("/")[2]


def _model(job: StudyJob) -> tuple[str, ...]:
    """The model and the device of every command that takes images through it."""
    # Defaults are not written out, so that the commands stay short enough to be typed.
    return (*_given("--checkpoint", job.checkpoint), *_given("--device", _unless(job.device, "auto")))


def _output(job: StudyJob, folder: Path) -> tuple[str, ...]:
    """Where an analysis writes, and how its figures are written."""
    size = _given("--figure-size", _unless(job.figure_size, "wide"))
    return ("--out", str(folder), *_given("--format", _unless(job.form, "png")), *size)


def _given(option: str, value: object) -> tuple[str, ...]:
    """An option and its value as words, nothing for None."""
    return () if value is None else (option, str(value))


def _unless(value: str, default: str) -> str | None:
    return None if value == default else value


def _some(value: str | None) -> tuple[str, ...]:
    return () if value is None else (value,)


def _file_of(labels: str | None) -> tuple[Path, ...]:
    """The file behind --labels, if it names one."""
    return (Path(labels),) if labels and labels != "folders" else ()


def _tables(folder: Path, topic: str) -> tuple[Path, ...]:
    return folder / f"{topic}.csv", folder / f"{topic}.parquet"


@dataclass
class StudyRecord:
    """Which steps of a study are done, kept in its folder, so that a killed study resumes after the last of them.

    Attributes:
        folder: the study's.
        done: by step, the command as it was called and the stamps of the files it read and wrote.
    """

    folder: Path
    done: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> StudyRecord:
        """Read the record; an empty one where there is none. Raises InputError where the file is not one of ours."""
        path = folder / RECORD
        if not path.exists():
            return cls(folder)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["format"] == FORMAT:
                return cls(folder, dict(content["done"]))
        # Any other content of the file is refused below in the same sentence.
        except (OSError, ValueError, KeyError, TypeError):
            pass
        raise InputError(f"{path} is not the record of a study; remove it, or choose another --out.")

    def is_done(self, step: Step) -> bool:
        """Whether the step was done by the same command, and its files have not changed since."""
        entry = self.done.get(step.name)
        # A missing file has a stamp as well, so equal stamps do not say that the file is there.
        return entry is not None and dict(entry) == _entry(step) and all(path.exists() for path in step.writes)

    def finish(self, step: Step) -> None:
        """Note that a step is done. Raises as `open_output`."""
        self.done[step.name] = _entry(step)
        from alit_cli.data.files import open_output  # late, because a command's help needs StudyJob

        content = {"format": FORMAT, "done": self.done}
        with open_output(self.folder / RECORD, "working file") as file:
            file.write(json.dumps(content, indent=1).encode())


def _entry(step: Step) -> dict[str, Any]:
    """What a step looks like once it is done, as JSON gives it back."""
    return {
        "words": list(step.words),
        # Lists instead of tuples, because JSON gives lists back and the two are compared.
        "reads": [list(_stamp(path)) for path in step.reads],
        "writes": [list(_stamp(path)) for path in step.writes],
    }


def _stamp(path: Path) -> Stamp:
    try:
        about = path.stat()
    except OSError:
        # A file that is not there has a stamp too, so that its appearance counts as a change.
        return str(path), -1, -1
    return str(path), about.st_size, about.st_mtime_ns


def recipe(job: StudyJob) -> str:
    """The job as the `[study]` table of a config file, which repeats the study: `alit study --config study.toml`."""
    lines = ["# alit-output: study", "", "[study]"]
    for name, value in vars(job).items():
        key = {"form": "format"}.get(name, name)
        # An option that was not given is left out, so that its default applies when the study is repeated.
        if value not in (None, ()):
            lines.append(f"{key} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """A text, a whole number or a list of texts; JSON writes these as TOML does."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    # A quoted text in JSON is a valid text in TOML.
    return str(value) if isinstance(value, int) else json.dumps(str(value), ensure_ascii=False)
