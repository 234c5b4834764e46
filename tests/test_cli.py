"""The command line itself: exit codes, sentences, interruptions, config files and the environment."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from alit_cli import __version__, cli, errors, options
from alit_cli.grouped_help import COMPUTE, RUN, Command, example, option
from alit_cli.option_types import Numbers
from tests.conftest import Alit

RAISES: dict[str, Exception] = {
    "alit": errors.AlitError("The disk is full; free some space."),
    "bad": errors.InputError("There is no folder ./x; check the path."),
    "failures": errors.TooManyFailures("3 of 4 images failed."),
    "unfinished": errors.NotFinished("2 of 9 shards are not done; run it again."),
    "crash": ValueError("boom"),
    "pipe": BrokenPipeError(errno.EPIPE, "Broken pipe"),
}

WAITER = """
import sys, time, types, click
from alit_cli import cli

@click.command()
@click.argument("path")
@click.option("--fork", is_flag=True)
def command(path, fork):
    import os, signal
    if fork:
        child = os.fork()
        if child == 0:
            time.sleep(60)
        time.sleep(0.5)  # a signal that arrives within the fork itself is lost
        os.kill(child, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        return
    print("ready", flush=True)
    time.sleep(60)

cli.COMMANDS = ("dummy",)
sys.modules["alit_cli.commands.dummy"] = types.SimpleNamespace(command=command)
cli.main(prog_name="alit")
"""


@click.command(epilog=example("alit dummy"))
@click.option("--fail", type=click.Choice(list(RAISES)))
@click.option("--thr", type=Numbers(float), default="0.08")
@click.option("--batch-size", type=Numbers(int), default="8")
@options.out_option("tokens.parquet")
@options.checkpoint_option
@options.device_option
@options.precision_option
@options.json_option
@options.quiet_option
@options.config_option
def dummy(fail: str | None, **given: object) -> None:
    if fail:
        raise RAISES[fail]
    click.echo(" ".join(f"{key}={value}" for key, value in sorted(given.items())))


@pytest.fixture(autouse=True)
def _only_dummy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "COMMANDS", ("dummy",))
    monkeypatch.setitem(sys.modules, "alit_cli.commands.dummy", SimpleNamespace(command=dummy))


@pytest.mark.parametrize(("fail", "code"), [("alit", 1), ("bad", 2), ("failures", 3), ("unfinished", 4), ("crash", 1)])
def test_an_error_is_one_sentence_and_an_exit_code(alit: Alit, fail: str, code: int) -> None:
    result = alit("dummy", "--fail", fail)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: ")
    assert str(RAISES[fail]) in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback_and_keeps_the_exit_code(alit: Alit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALIT_DEBUG", "1")
    result = alit("dummy", "--fail", "bad")
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert result.stderr.endswith("Error: There is no folder ./x; check the path.\n")


def test_a_reader_that_leaves_is_not_an_error_worth_words(alit: Alit) -> None:
    assert alit("dummy", "--fail", "pipe").stderr == ""


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["dumy"], "There is no command 'dumy'; did you mean 'dummy'?"),
        (["zzz"], "There is no command 'zzz'; the commands are dummy."),
        (["--zzz"], "No such option '--zzz'. See alit --help."),
        (["dummy", "--zzz"], "No such option '--zzz'. See alit dummy --help."),
        (
            ["dummy", "--thr", "0.1,x"],
            "Invalid value for '--thr': 'x' is not a number. See alit dummy --help.",
        ),
        (
            ["dummy", "--thr", "nan"],
            "Invalid value for '--thr': 'nan' is not a number. See alit dummy --help.",
        ),
        (
            ["dummy", "--batch-size", "1.5"],
            "Invalid value for '--batch-size': '1.5' is not a whole number. See alit dummy --help.",
        ),
        (
            ["dummy", "--device", "gpu"],
            "Invalid value for '--device': 'gpu' is not one of auto, cpu, cuda, cuda:N, mps. See alit dummy --help.",
        ),
    ],
)
def test_a_wrong_call_is_one_sentence_and_exit_code_2(alit: Alit, args: list[str], sentence: str) -> None:
    result = alit(*args)
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", f"Error: {sentence}\n")


def test_defaults_reach_the_command(alit: Alit) -> None:
    assert alit("dummy", "-q").stdout == (
        "as_json=False batch_size=(8,) checkpoint=None device=auto out=tokens.parquet precision=auto thr=(0.08,)\n"
    )


def test_version_and_help(alit: Alit) -> None:
    assert alit("--version").stdout == f"alit, version {__version__}\n"
    for args in (["-h"], ["--help"]):
        shown = alit(*args)
        assert "alit analyze complexity savoias.csv" in shown.stdout, shown.stderr
    bare = alit()
    assert bare.exit_code == 2
    assert "Usage: alit" in bare.stderr


def test_command_line_beats_environment_beats_file_beats_default(
    alit: Alit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.toml"
    file.write_text('thr = [0.1, 0.2]\nbatch-size = 4\ndevice = "cpu"\n[dummy]\nprecision = "bf16"\ndevice = "mps"')
    monkeypatch.setenv("ALIT_DUMMY_BATCH_SIZE", "5")
    monkeypatch.setenv("ALIT_DUMMY_CHECKPOINT", "b.safetensors")
    result = alit("dummy", "--config", file, "--checkpoint", "c.safetensors")
    assert result.stdout == (
        "as_json=False batch_size=(5,) checkpoint=c.safetensors device=mps "
        "out=tokens.parquet precision=bf16 thr=(0.1, 0.2)\n"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("thrr = 1", "sets 'thrr', which alit dummy does not have."),
        ("[dumy]\nthr = 1", "has a table [dumy], but there is no such command."),
        ("dummy = 1", "sets 'dummy', which alit dummy does not have."),
        ("thr = ", "is not valid TOML"),
        ("thr = []", "Invalid value for '--thr': there is no number in it."),
        (None, "No such file or directory"),
    ],
)
def test_a_config_file_that_means_nothing_is_named(alit: Alit, tmp_path: Path, text: str | None, sentence: str) -> None:
    file = tmp_path / "run.toml"
    if text is not None:
        file.write_text(text)
    result = alit("dummy", "--config", file)
    assert result.exit_code == 2
    assert sentence in result.stderr


def test_a_file_calls_options_by_their_long_names(alit: Alit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command(epilog=example("alit named"))
    @click.option("--format", "form")
    @click.option("--hash", "digest", is_flag=True)
    @click.option("--task", "tasks", multiple=True)
    @click.option("--model", "models", multiple=True)
    @options.json_option
    @options.config_option
    def named(form: str, digest: bool, tasks: tuple[str, ...], models: tuple[str, ...], as_json: bool) -> None:
        click.echo(f"{form} {digest} {tasks} {models} {as_json}")

    monkeypatch.setitem(sys.modules, "alit_cli.commands.dummy", SimpleNamespace(command=named))
    file = tmp_path / "run.toml"
    file.write_text('format = "svg"\nhash = true\ntask = "recon"\nmodels = ["a", "b"]\njson = true')
    assert alit("dummy", "--config", file).stdout == "svg True ('recon',) ('a', 'b') True\n"


def test_a_config_table_of_a_nested_command(alit: Alit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = click.Group("dummy", {"inner": dummy})
    monkeypatch.setitem(sys.modules, "alit_cli.commands.dummy", SimpleNamespace(command=group))
    file = tmp_path / "run.toml"
    file.write_text("[dummy.inner]\nthr = 0.5\n")
    assert "thr=(0.5,)" in alit("dummy", "inner", "--config", file).stdout


@click.command(cls=Command, epilog=example("alit renamed"))
@option(COMPUTE, "--carry", formerly=["--keep"], default="nothing", help="Columns to carry along.")
@option(RUN, "--plain", is_flag=True, help="A flag.")
@options.quiet_option
@options.config_option
@click.argument("rest", nargs=-1)
def renamed(carry: str, plain: bool, rest: tuple[str, ...]) -> None:
    click.echo(f"{carry} {plain} {rest}")


def test_an_option_can_be_called_by_its_former_name_for_one_release(
    alit: Alit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "alit_cli.commands.dummy", SimpleNamespace(command=renamed))
    remark = "--keep is called --carry now; the old name will be gone in the next release.\n"
    for args in (["--keep", "label"], ["--keep=label"]):
        result = alit("dummy", *args, "--plain")
        assert (result.stdout, result.stderr) == ("label True ()\n", remark)
    assert alit("dummy", "--keep", "label", "-q").stderr == ""
    assert alit("dummy", "--", "--keep").stdout == "nothing False ('--keep',)\n"
    assert "--keep" not in alit("dummy", "--help").stdout
    file = tmp_path / "run.toml"
    file.write_text('keep = "caption"')
    assert alit("dummy", "--config", file).stdout == "caption False ()\n"
    monkeypatch.setenv("ALIT_DUMMY_KEEP", "from outside")
    assert alit("dummy").stdout == "from outside False ()\n"


def test_help_is_in_groups_and_shows_defaults(alit: Alit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "alit_cli.commands.dummy", SimpleNamespace(command=renamed))
    shown = alit("dummy", "--help").stdout
    groups = [line.rstrip(":") for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert groups == ["What to compute", "Run", "Example"] or groups == ["What to compute", "Run"]
    assert "[default: nothing]" in shown
    assert shown.index("--plain") < shown.index("-h, --help") < shown.index("alit renamed")


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_names_the_command_that_goes_on(stop: signal.Signals, code: int) -> None:
    line = [sys.executable, "-c", WAITER, "dummy", "my photos"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(stop)
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == code
    assert stderr == "\nInterrupted. To resume, run the same command again: alit dummy 'my photos'\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_worker_that_is_told_to_stop_says_nothing() -> None:
    line = [sys.executable, "-c", WAITER, "dummy", "x", "--fork"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=30, check=True)
    assert (done.stdout, done.stderr) == ("143\n", "")
