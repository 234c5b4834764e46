"""The house keeps its order: layers, light start-up, packaging, style, examples."""

import ast
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from alit_cli import cli
from alit_cli.grouped_help import GROUPS, Option

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("alit_cli/**/*.py"), *ROOT.glob("commands/*.py")])
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())

BASE = {"errors", "progress", "config"}
MAY_IMPORT = {
    "errors": set[str](),
    "progress": set[str](),
    "config": {"errors"},
    "data": BASE | {"data"},
    "runs": BASE | {"data", "runs"},
    "model": BASE | {"data", "runs", "model"},
    "training": BASE | {"data", "runs", "model", "training", "__version__"},
    "tasks": BASE | {"data", "model", "tasks"},
    "jobs": BASE | {"data", "runs", "model", "tasks", "jobs", "__version__"},
    "analysis": BASE | {"data", "analysis", "table_layout", "results"},
    "image_studies": BASE | {"data", "model", "jobs", "analysis", "results", "image_studies"},
    "report": BASE | {"data", "model", "tasks", "jobs", "analysis", "report", "__version__"},
    "weights": set[str](),
    "api": {"data", "model", "analysis", "__version__"},
    "console": {"progress", "table_layout", "results"},
    "results": {"table_layout"},
    "table_layout": set[str](),
    "config_files": {"errors"},
    "option_types": set[str](),
    "grouped_help": {"console"},
    "options": {"errors", "data", "analysis", "config_files", "console", "grouped_help", "option_types"},
    "run_options": {"console", "grouped_help", "runs"},
    "train_options": {"config", "grouped_help", "option_types"},
    "cli": {"errors", "grouped_help", "__version__"},
    "__main__": {"cli"},
    "__init__": {"model"},
    "commands": BASE
    | {
        "data",
        "runs",
        "model",
        "training",
        "tasks",
        "jobs",
        "analysis",
        "image_studies",
        "report",
        "weights",
        "console",
        "table_layout",
        "results",
        "option_types",
        "options",
        "run_options",
        "train_options",
        "grouped_help",
        "__version__",
    },
}
WITHOUT_TORCH = {
    "errors",
    "progress",
    "console",
    "results",
    "table_layout",
    "config_files",
    "option_types",
    "options",
    "run_options",
    "train_options",
    "grouped_help",
    "cli",
}
WITHOUT_TORCH |= {"data", "runs", "analysis"}
LIGHT = {"alit_cli", "click"}
"""The only packages beside Python's own that a help page may import: this is why it is there within 0.15 s."""

DISTRIBUTIONS = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn"}
DISTRIBUTIONS |= {"huggingface_hub": "huggingface-hub", "torch_fidelity": "torch-fidelity"}
USED_BY_PANDAS = {"openpyxl"}


def room(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return "commands" if parts[0] == "commands" else parts[1]


def name_of(value: object) -> str:
    """A test's name for what it is given: a file's place, or the words that call a command."""
    if isinstance(value, Path):
        return str(value.relative_to(ROOT))
    return " ".join(value) if isinstance(value, tuple) else ""


def imports(file: Path) -> Iterator[str]:
    """Every dotted name a file imports, anywhere in it; `from a import b` is `a.b`."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def python(code: str, folder: Path = ROOT) -> str:
    line = [sys.executable, "-c", code]
    return subprocess.run(line, cwd=folder, capture_output=True, text=True, check=True).stdout


def commands(
    command: click.Command = cli.main, path: tuple[str, ...] = ("alit",)
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and group with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, **command.context_settings)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from commands(inner, (*path, name))


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_imports_never_point_up(file: Path) -> None:
    for name in imports(file):
        package, _, rest = name.partition(".")
        assert package != "commands", f"{file} imports {name}"
        if package == "alit_cli":
            assert rest.split(".")[0] in MAY_IMPORT[room(file)], f"{file} imports {name}"
        if package in {"torch", "einops", "safetensors"}:
            assert room(file) not in WITHOUT_TORCH, f"{file} imports {name}"
        if package == "PIL":
            assert room(file) != "analysis", f"{file} imports {name}"


def test_data_runs_and_analysis_load_no_torch() -> None:
    modules = [
        ".".join(file.relative_to(ROOT).with_suffix("").parts)
        for file in FILES
        if room(file) in {"data", "runs", "analysis"} and file.stem != "__init__"
    ]
    assert python(f"import sys, {', '.join(modules)}; print('torch' in sys.modules)") == "False\n"


def test_start_up_and_help_load_nothing_heavy() -> None:
    calls = [[*path[1:], "--help"] for path, _ in commands()]
    code = f"""
import sys
before = set(sys.modules)  # what the interpreter and the environment's own .pth files bring
import alit_cli, alit_cli.cli
for call in {calls}:
    alit_cli.cli.main(call, prog_name="alit", standalone_mode=False)
print(sorted({{name.split(".")[0] for name in set(sys.modules) - before}} - set(sys.stdlib_module_names)))
"""
    assert set(ast.literal_eval(python(code).splitlines()[-1])) == LIGHT


def test_the_first_help_imports_no_command() -> None:
    code = """
import sys
from alit_cli.cli import main
main(["--help"], prog_name="alit", standalone_mode=False)
print(sorted(name for name in sys.modules if name.startswith("alit_cli.commands.")))
"""
    assert python(code).splitlines()[-1] == "['alit_cli.commands.analyze']"


@pytest.mark.parametrize("file", [*FILES, *sorted(ROOT.glob("tests/**/*.py"))], ids=name_of)
def test_files_and_functions_are_short_and_say_what_they_hold(file: Path) -> None:
    text = file.read_text()
    tree = ast.parse(text)
    assert file.stem not in {"utils", "misc", "helpers"}
    assert len(text.splitlines()) <= 400
    first = (ast.get_docstring(tree) or "").split("\n\n")[0]
    assert first.endswith("."), "a file opens with one sentence"
    longest = 60
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno is not None
            length = node.end_lineno - node.lineno + 1
            assert length <= longest, f"{node.name} has {length} lines"


def test_dependencies_tell_the_truth() -> None:
    declared = {re.split(r"[><=]", line)[0] for line in PROJECT["project"]["dependencies"]}
    optional = {
        re.split(r"[><=]", line)[0] for lines in PROJECT["project"]["optional-dependencies"].values() for line in lines
    }
    used = {name.split(".")[0] for file in FILES for name in imports(file)}
    used = {DISTRIBUTIONS.get(name, name) for name in used - set(sys.stdlib_module_names) - {"alit_cli"}}
    assert used - optional <= declared
    assert declared - used == USED_BY_PANDAS


def test_every_package_is_listed() -> None:
    found = {str(file.parent.relative_to(ROOT)).replace("/", ".") for file in FILES if file.stem == "__init__"}
    found = {name.replace("commands", "alit_cli.commands").replace("alit_cli.api", "alit") for name in found}
    assert found == set(PROJECT["tool"]["setuptools"]["packages"])


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the checkout."""
    copy = tmp_path_factory.mktemp("source") / "alit"
    unwanted = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "tests", "sample_data", "*.work")
    shutil.copytree(ROOT, copy, ignore=unwanted)
    line = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run(line, cwd=copy, check=True, capture_output=True)
    (built,) = copy.glob("*.whl")
    return built


def test_the_wheel_holds_everything_and_nothing_else(wheel: Path) -> None:
    weights = [file for suffix in ("safetensors", "json", "md") for file in ROOT.glob(f"alit_cli/weights/*.{suffix}")]
    page = [file for suffix in ("html", "css", "js") for file in ROOT.glob(f"alit_cli/report/*.{suffix}")]
    expected = {str(file.relative_to(ROOT)) for file in [*FILES, *weights, *page]} | {"alit_cli/py.typed"}
    expected = {re.sub(r"^commands/", "alit_cli/commands/", name) for name in expected}
    expected = {re.sub(r"^alit_cli/api/", "alit/", name) for name in expected}
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert any(name.endswith("licenses/LICENSE") for name in names)
    (entry,) = (name for name in names if name.endswith("entry_points.txt"))
    assert "alit = alit_cli.cli:main" in zipfile.ZipFile(wheel).read(entry).decode()


@pytest.mark.parametrize("kind", ["wheel", "checkout"])
def test_commands_are_found_where_the_package_is(kind: str, wheel: Path, tmp_path: Path) -> None:
    if kind == "wheel":
        zipfile.ZipFile(wheel).extractall(tmp_path)
        expected = tmp_path / "alit_cli" / "commands"
    else:
        for folder in ("alit_cli", "commands"):
            shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
        expected = tmp_path / "commands"
    if kind == "wheel":
        python("import sys, alit; alit.__version__; assert 'torch' not in sys.modules; alit.load", tmp_path)
    code = "import alit_cli.cli, alit_cli.commands.select as module; print(module.__file__)"
    assert Path(python(code, tmp_path).strip()).parent == expected
    line = [sys.executable, "-m", "alit_cli", "--help"]
    assert subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    ("path", "command"),
    list(commands()),
    ids=name_of,
)
def test_help_ends_with_a_real_example(path: tuple[str, ...], command: click.Command) -> None:
    context = click.Context(command, info_name=" ".join(path), **command.context_settings)
    words = shlex.split(command.get_help(context).strip().splitlines()[-1])
    assert tuple(words[: len(path)]) == path
    example: click.Command = cli.main
    words = words[1:]
    while isinstance(example, click.Group):
        found = example.get_command(context, words.pop(0))
        assert found is not None
        example = found
    example.make_parser(click.Context(example)).parse_args(words)


@pytest.mark.parametrize(("path", "command"), list(commands()), ids=name_of)
def test_options_have_a_group_and_show_their_defaults(path: tuple[str, ...], command: click.Command) -> None:
    if isinstance(command, click.Group):
        return
    for option in command.params:
        if not isinstance(option, click.Option) or option.hidden:
            continue
        assert isinstance(option, Option), f"{' '.join(path)} {option.opts[0]} belongs to no group of the help"
        assert option.group in GROUPS
        assert option.help, f"{option.opts[0]} is not explained"
        (record,) = [option.get_help_record(click.Context(command))]
        assert record is not None
        default = option.get_default(click.Context(command))
        if not option.is_flag and default != () and isinstance(default, str | int | float | tuple | Path):
            assert "[default: " in record[1], f"{' '.join(path)} {option.opts[0]}"


def test_every_value_of_a_training_says_what_it_is_without_the_option() -> None:
    (train,) = [command for path, command in commands() if path == ("alit", "train")]
    for option in train.params:
        # An option of the recipe has no default of its own, so that its help has to say where the value comes from.
        if isinstance(option, Option) and not option.is_flag and option.name != "config":
            record = option.get_help_record(click.Context(train))
            assert record is not None
            assert "[default: " in record[1], f"{option.opts[0]} has no default in the help"


@pytest.mark.parametrize("path", [(), ("analyze",)], ids=name_of)
def test_no_summary_is_cut(path: tuple[str, ...]) -> None:
    shown = CliRunner().invoke(cli.main, [*path, "--help"], prog_name="alit").stdout
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 80
    inner = cli.main if not path else cli.main.get_command(click.Context(cli.main), path[0])
    assert isinstance(inner, click.Group)
    for name in inner.list_commands(click.Context(inner)):
        (line,) = [line for line in lines if line.startswith(f"  {name}  ")]
        assert line.endswith("."), f"the summary of {name} is one line and a sentence"


def test_no_folder_is_crowded() -> None:
    folders = {file.parent for file in FILES}
    crowded = {str(folder): count for folder in folders if (count := len(list(folder.glob("[!_]*.py")))) > 16}
    assert set(crowded) <= {str(ROOT / "commands")}, "one file per command is the rule there"


ERRORS = {"AlitError", "InputError", "TooManyFailures", "NotFinished", "ImageProblem"}


def told(node: ast.expr) -> str | None:
    """The words of an error as they are written, `{}` for what is filled in; None where a function makes them."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (told(node.left) or "{}") + (told(node.right) or "{}")
    return None


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_errors_are_whole_sentences(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name) or node.func.id not in ERRORS:
            continue
        position = 1 if node.func.id == "ImageProblem" else 0  # the first argument of an ImageProblem is its status
        sentence = told(node.args[position]) if len(node.args) > position else None
        if sentence is None:
            continue
        where = f"{file}:{node.lineno}: {sentence}"
        assert sentence[0].isupper() or sentence[0] in "'{" or sentence.startswith("-"), f"{where} begins in lower case"
        # An error that repeats another one's words ends as that one does.
        assert sentence.endswith((".", "?")) or sentence.endswith(": {}"), f"{where} has no full stop"


NOUN = "rows?|tables?|cells?|bits?|lines?|objects?|panels?|sheets?|columns?|numbers?|values?|vectors?|tokens?|images?"
NOUN += "|pictures?|photographs?|steps?|entry|entries|records?|operations|nats|rollout|option"
UNIT = "image|batch|task|pixel|token|row|column|line|budget|second|step|iteration|region|thread|group|network|shard"
UNIT += "|picture|photograph|worker|process|measure|mask|run|stage|position|segment|command"
VERB = "is|has|needs?|would|may|can|takes|at a time|of"
PER = re.compile(rf"\b(?:{NOUN}) an? (?:{UNIT})\b(?! (?:{VERB})\b)")
"""`a row an image`, which is `one row per image`."""

PRIVATE = re.compile(r"\b(anew|held against|hold it against|work(s|ed)? off|in its turn|to go on)\b")
"""Words that nobody greps for: say again, compare, finish, resume."""


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_words_are_plain(file: Path) -> None:
    for number, line in enumerate(file.read_text().splitlines(), 1):
        where = f"{file}:{number}: {line.strip()}"
        assert not PER.search(line), f"{where}: write 'per'"
        assert not PRIVATE.search(line), f"{where}: use a plain word"
