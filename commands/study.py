"""`alit study`: a whole study of one folder of images, step by step, ending in a page and in findings."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from alit_cli.analysis.studies.study import StudyJob
from alit_cli.console import CHAINED, QUIET, print_json, say, show, show_table
from alit_cli.errors import InputError
from alit_cli.grouped_help import COMPUTE, INPUT, RUN, Command, example, option
from alit_cli.options import (
    as_record,
    bootstrap_option,
    checkpoint_option,
    config_option,
    device_option,
    format_option,
    json_option,
    limit_option,
    out_option,
    quiet_option,
)

if TYPE_CHECKING:
    from alit_cli.analysis.studies.findings import Finding
    from alit_cli.analysis.studies.study import Step, StudyRecord


@click.command(
    "study",
    cls=Command,
    epilog=example(
        "alit study ./photos --labels folders --classify microsoft/resnet-18 --judge google/vit-base-patch16-224",
        "alit study --config study/study.toml",
    ),
)
@click.argument("images", nargs=-1)
@option(INPUT, "--labels", metavar="FILE|folders", help="True classes: a file, or the names of the images' folders.")
@option(
    INPUT,
    "--complexity",
    # In the other commands --scores is the folder of alit score's tables.
    formerly=["--scores"],
    metavar="FILE",
    help="Scores of complexity, as alit analyze complexity takes them.",
)
@option(INPUT, "--masks", metavar="DIR", help="A label map per image, as alit analyze attention takes them.")
@option(INPUT, "--depth-maps", metavar="DIR", help="True depth maps, as alit score takes them.")
@option(
    INPUT, "--against", metavar="IMAGES", multiple=True, help="Other images to compare with IMAGES; may be repeated."
)
@option(
    COMPUTE,
    "--classify",
    metavar="NETWORK",
    multiple=True,
    help="A classifier that chooses budgets by the rank of the true class; may be repeated.",
)
@option(
    COMPUTE,
    "--judge",
    metavar="NETWORK",
    multiple=True,
    help="A classifier that only judges the budgets that others have chosen; may be repeated.",
)
@option(COMPUTE, "--depth", metavar="NETWORK", help="A network that estimates depth.")
@option(COMPUTE, "--features", metavar="NETWORK", help="A network whose features give the Fréchet distance.")
@bootstrap_option
@option(RUN, "--dry-run", is_flag=True, help="Only print the steps and about how long they would take.")
@out_option("study", "The folder for all tables, figures, findings and the page.")
@checkpoint_option
@device_option
@limit_option
@format_option
@json_option
@quiet_option
@config_option
@as_record(StudyJob)
def command(job: StudyJob, as_json: bool, dry_run: bool) -> None:
    """Study IMAGES (as alit tokenize takes them) with all commands for which there is an input.

    The steps are tokenize, score, quality and capacity; then strength with several classifiers and labels, complexity
    with --complexity, familiarity with --against, attention with --masks, and probe with --labels; at the end the page
    and the findings. Each step is a command that is printed before it runs. After an interruption, run the same command
    again: steps that are done are skipped. A step that is not possible with these images is left out, and the reason
    is printed.
    """
    from alit_cli.analysis.studies.findings import collect_findings, save_findings
    from alit_cli.analysis.studies.study import PAGE, StudyRecord, plan_steps, recipe

    ctx = click.get_current_context()
    # click looks for options in a config file, so the list of images that a file may hold is read here.
    job = dataclasses.replace(job, images=job.images or tuple((ctx.default_map or {}).get("images", ())))
    if not job.images:
        raise InputError("Name the images to study: a folder, files, tars, or a config file with a list of 'images'.")
    steps, record = plan_steps(job), StudyRecord.load(job.out)
    if dry_run:
        _show_plan(job, steps, record, as_json)
        return
    # The recipe is written first, so that also an interrupted study can be repeated from it.
    _write(job.out / "study.toml", recipe(job))
    remarks = []
    for number, step in enumerate(steps, 1):
        say(f"Step {number} of {len(steps)}, {step.name}: {shlex.join(['alit', *step.words])}")
        # A step that is always called finds out itself whether there are new images.
        if not step.always and record.is_done(step):
            say("This step is done.")
            continue
        try:
            _run(ctx, step)
        except InputError as error:
            # Only an optional step may be left out: without the tables of the other steps there is no study.
            if not step.optional:
                raise
            remarks.append(f"{step.name}: {error}")
            say(f"The step {step.name} is left out: {error}")
            # The step is not recorded as done, so the same command tries it again the next time.
            continue
        record.finish(step)
    findings = collect_findings(job.out)
    files = save_findings(findings, job.out, remarks)
    # The path is printed for a browser, which may have been started in another folder.
    page = (job.out / PAGE).absolute()
    if as_json:
        print_json(
            {"page": page, "findings": [vars(finding) for finding in findings], "left_out": remarks, "files": files}
        )
    else:
        _show(findings, remarks, page)


def _run(ctx: click.Context, step: Step) -> None:
    """Run a step's command in this process; what it prints goes to stderr, since the study's result is the findings."""
    # The step goes through the same group as a typed line, so it means exactly what was printed before it.
    root = ctx.find_root()
    assert isinstance(root.command, click.Group)
    # The step has a context of its own with its own --quiet, so the flag is handed on as a word.
    quiet = bool(ctx.meta.get(QUIET))
    ctx.meta[CHAINED] = True
    words = [*step.words, *(["--quiet"] if quiet else [])]
    name, command, rest = root.command.resolve_command(root, words)
    assert command is not None
    with contextlib.redirect_stdout(sys.stderr), command.make_context(name, rest, parent=root) as inner:
        command.invoke(inner)


def _write(path: Path, text: str) -> None:
    from alit_cli.data.files import open_output

    with open_output(path, "study") as file:
        file.write(text.encode())


def _show_plan(job: StudyJob, steps: list[Step], record: StudyRecord, as_json: bool) -> None:
    """The steps and their commands; the time of a pass over the images is measured on a few of them."""
    from alit_cli.analysis.studies.study import TOKENS
    from alit_cli.console import progress_reporter
    from alit_cli.jobs.tokenize import TokenizeJob
    from alit_cli.runs.estimate import estimate

    table = job.out / TOKENS
    timed = TokenizeJob(job.images, table, checkpoint=job.checkpoint, device=job.device, limit=job.limit)
    with progress_reporter() as report:
        measured = estimate(timed, report)
    left = [step for step in steps if not record.is_done(step)]
    # Every pass over the images is taken to be as slow as tokenizing; the last sentence says so.
    one_pass = measured.images / measured.images_per_second
    minutes = one_pass / 60 * sum(step.passes for step in left)
    if as_json:
        names = [{"name": step.name, "command": ["alit", *step.words], "done": step not in left} for step in steps]
        print_json({"images": measured.images, "steps": names, "minutes": minutes})
        return
    show_table(
        f"{job.out}: {measured.images} images",
        ["step", "state", "passes over the images"],
        [[step.name, "to do" if step in left else "done", step.passes] for step in steps],
    )
    for step in steps:
        click.echo(shlex.join(["alit", *step.words]))  # never wrapped, so that it can be copied
    show(
        f"About {minutes:.1f} minutes: a pass is taken to last as long as tokenizing, {one_pass / 60:.1f} minutes "
        f"(from {measured.basis})."
    )


def _show(findings: list[Finding], remarks: list[str], page: Path) -> None:
    """The findings, what was left out, and where the page is."""
    for finding in findings:
        show(f"- {finding.sentence}")
    for remark in remarks:
        say(f"Left out: {remark}")
    show(f"The page is {page}; open it in a browser.")
