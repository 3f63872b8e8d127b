"""`--config FILE`: what flags can say, said in a file; who wins; what is refused, and how that is said."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from commands import FAKES, SECRET, Cli, Outcome, dataset
from hypothesis import given
from hypothesis import strategies as st

import tandem.cli
from tandem.cli.config_option import config_option
from tandem.cli.run import run
from tandem.cli.serve import serve
from tandem.cli.values import FiniteNumber, Numbers, UnitName
from tandem.costs import UNITS

NEEDED = {"mentor": "fake", "intern": "fake", "dataset": "starter"}


@click.command("serve")
@click.option("--mentor", required=True)
@click.option("--concurrency", type=click.IntRange(1), default=8)
@click.option("--port", "--listen", type=int, default=8080)
@click.option("--keys", type=click.Path(path_type=Path))
@config_option
def stand_in(**options: Any) -> None:
    """Stands in for `tandem serve`: some options of `run`, some of its own."""
    click.echo(json.dumps(options, default=str))


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `tandem serve` be the stand-in."""
    monkeypatch.setitem(tandem.cli._COMMANDS, "serve", (f"{__name__}:stand_in", ""))


def parsed(*arguments: str) -> dict[str, Any]:
    """Return what `tandem run` is called with."""
    with run.make_context("run", list(arguments), auto_envvar_prefix="TANDEM_RUN") as ctx:
        return ctx.params


def said(outcome: Outcome) -> str:
    """Return the one line of a refusal, without its `tandem: `."""
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("tandem: ") and outcome.err.count("\n") == 1
    return outcome.err.removeprefix("tandem: ").rstrip("\n")


def write(text: str) -> None:
    Path("run.yaml").write_text(f"mentor: fake\nintern: fake\ndataset: starter\n{text}")


# What a file says


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("max_usd: 5", ["--max-usd", "5"]),
        ("mentor-parameters: 200e9", ["--mentor-parameters", "200e9"]),
        ("seed: 010", ["--seed", "010"]),  # what YAML would take for eight
        ("split: 2026-11-22", ["--split", "2026-11-22"]),
        ("split: no", ["--split", "no"]),
        ("split: 'null'", ["--split", "null"]),
        ("effort: none,low=40,answer", ["--effort", "none,low=40,answer"]),
        ("level: [1, 5]", ["--level", "1", "--level", "5"]),
        ("level: 5", ["--level", "5"]),
        ("level: []", []),
        ("vllm-arg:\n  - --max-num-seqs\n  - 512", ["--vllm-arg=--max-num-seqs", "--vllm-arg=512"]),
        ("mentor-gpus: [0, 1]", ["--mentor-gpus", "0,1"]),
        ("mentor-gpus: 0", ["--mentor-gpus", "0"]),
        ("no-grade: true", ["--no-grade"]),
        ("no_grade: yes", ["--no-grade"]),
        ("no-grade: false", []),
        ("json: true", ["--json"]),
        ("cache: true", ["--cache"]),
        ("cache: False", []),
        ("cache: answers", ["--cache", "answers"]),
        ("ray: true", ["--ray"]),
        ("seed:", []),
        ("seed: null", []),
        ("level: ~", []),
        ("concurrency: null", []),
        ("run: {seed: 3, level: [1]}", ["--seed", "3", "--level", "1"]),
        ("seed: 3\nrun: {seed: 4}", ["--seed", "4"]),
        ("seed: 3\nrun: {seed: null}", ["--seed", "3"]),
        ("cache: answers\nrun: {cache: false}", []),
        ("run:", []),
        ("run: {}", []),
    ],
)
def test_a_line_says_what_the_flag_says(line: str, flags: list[str]) -> None:
    write(line)
    assert parsed("--config", "run.yaml") == parsed(*FAKES, "--dataset", "starter", *flags)


def test_a_home_folder_is_found_as_by_a_shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    write("out: ~/runs/first\ncache: sub/answers")
    found = parsed("--config", "run.yaml")
    assert (found["out"], found["cache"]) == (tmp_path / "me" / "runs" / "first", Path("sub/answers"))


def test_paths_start_where_the_command_is_called_and_not_at_the_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    dataset(tmp_path / "own.jsonl", 1)
    (tmp_path / "deep" / "run.yaml").write_text("mentor: fake\nintern: fake\ndataset: own.jsonl\nout: out\n")
    assert cli("run", "--config", "deep/run.yaml").code == 0
    assert (tmp_path / "out" / "run.json").exists()


def test_a_byte_order_mark_and_comments_are_no_matter() -> None:
    Path("run.yaml").write_text("\ufeff# all of it\nmentor: fake  # this one\nintern: fake\ndataset: starter\n")
    assert parsed("--config", "run.yaml") == parsed(*FAKES, "--dataset", "starter")


# Who wins


def test_a_flag_wins_over_the_environment_that_over_the_file_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write("concurrency: 2\nlevel: [2]\nno-grade: true")
    assert parsed(*FAKES, "--dataset", "starter")["concurrency"] == 16
    of_file = parsed("--config", "run.yaml")
    assert (of_file["concurrency"], of_file["level"], of_file["no_grade"]) == (2, ("2",), True)
    monkeypatch.setenv("TANDEM_RUN_CONCURRENCY", "3")
    monkeypatch.setenv("TANDEM_RUN_LEVEL", "3")
    monkeypatch.setenv("TANDEM_RUN_NO_GRADE", "0")
    of_environment = parsed("--config", "run.yaml")
    assert (of_environment["concurrency"], of_environment["level"], of_environment["no_grade"]) == (3, ("3",), False)
    for flags in (("--config", "run.yaml", "--concurrency", "4"), ("--concurrency", "4", "--config", "run.yaml")):
        found = parsed(*flags, "--level", "4", "--no-grade", "--mentor", "other")
        assert (found["concurrency"], found["level"], found["no_grade"]) == (4, ("4",), True)
        assert (found["mentor"], found["intern"]) == ("other", "fake")


def test_the_file_itself_may_be_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    write("seed: 3")
    monkeypatch.setenv("TANDEM_RUN_CONFIG", "run.yaml")
    assert parsed()["seed"] == 3


def test_the_environment_reaches_a_command_line_with_a_file(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dataset(tmp_path / "own.jsonl", 3)
    Path("run.yaml").write_text("mentor: fake\nintern: fake\ndataset: own.jsonl\njson: true\nlimit: 1\n")
    assert json.loads(cli("run", "--config", "run.yaml").out)["n"] == 1
    monkeypatch.setenv("TANDEM_RUN_LIMIT", "2")
    assert json.loads(cli("run", "--config", "run.yaml").out)["n"] == 2
    assert json.loads(cli("run", "--config", "run.yaml", "--limit", "3").out)["n"] == 3


# A run of a file is a run of flags


def test_a_run_is_the_same_by_file_and_by_flags_and_each_goes_on_with_the_other(cli: Cli, tmp_path: Path) -> None:
    own = dataset(tmp_path / "own.jsonl", 3)
    flags = ("run", *FAKES, "--dataset", own, "--effort", "none,low=40,high", "--seed", "7", "--temperature", "0.5")
    lines = {"mentor": "fake", "intern": "fake", "dataset": own, "effort": "none,low=40,high"}
    Path("run.yaml").write_text(yaml.safe_dump({**lines, "run": {"seed": 7, "temperature": 0.5, "out": "by-file"}}))
    assert cli(*flags, "--out", "by-flags").code == 0
    assert cli("run", "--config", "run.yaml").code == 0
    by_flags, by_file = (json.loads(Path(name, "run.json").read_text()) for name in ("by-flags", "by-file"))
    assert by_file.pop("started") and by_flags.pop("started")
    assert by_file == by_flags
    assert cli(*flags, "--resume", "by-file").code == 0
    assert cli("run", "--config", "run.yaml", "--resume", "by-flags").code == 0
    changed = cli("run", "--config", "run.yaml", "--seed", "8", "--resume", "by-flags")
    assert "settings.sampling.seed" in said(changed)


def test_a_folder_that_is_typed_wins_over_the_files(cli: Cli, tmp_path: Path) -> None:
    lines = f"mentor: fake\nintern: fake\ndataset: {dataset(tmp_path / 'own.jsonl', 2)}\njson: true\n"
    Path("new.yaml").write_text(f"{lines}out: first\n")
    assert cli("run", "--config", "new.yaml").code == 0
    assert "first holds a run already" in said(cli("run", "--config", "new.yaml"))
    assert cli("run", "--config", "new.yaml", "--resume", "first").code == 0  # "the same command and --resume first"
    Path("on.yaml").write_text(f"{lines}resume: first\n")
    assert cli("run", "--config", "on.yaml").code == 0
    assert cli("run", "--config", "on.yaml", "--out", "second").code == 0
    assert Path("second", "run.json").exists()
    Path("on.yaml").write_text(f"{lines}resume: first\nout: second\n")
    assert "give one of them" in said(cli("run", "--config", "on.yaml"))


# One file for two commands


def test_one_file_drives_both_commands(cli: Cli, beside: None) -> None:
    Path("both.yaml").write_text(
        "mentor: fake\nintern: fake\nport: 9000\nno-grade: true\nconcurrency: 2\nkeys: keys.yaml\n"
        "run: {dataset: starter, concurrency: 3}\nserve: {concurrency: 4}\n"
    )
    assert json.loads(cli("serve", "--config", "both.yaml").out) == {
        **{"mentor": "fake", "concurrency": 4, "port": 9000, "keys": "keys.yaml"}
    }
    found = parsed("--config", "both.yaml")
    assert (found["dataset"], found["concurrency"], found["no_grade"]) == (("starter",), 3, True)


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("prot: 1", "both.yaml: unknown option 'prot'. Did you mean port, "),
        ("serv: {port: 1}", "both.yaml: unknown option 'serv'. Did you mean serve, "),
        ("serve: {prot: 1}", "both.yaml: unknown option of tandem serve 'prot'. Did you mean port?"),
        ("run: {port: 1}", "both.yaml: unknown option of tandem run 'port'. Did you mean "),
        ("serve: {port: 1, port: 2}", "both.yaml: serve: 'port' is given twice, in lines 2 and 2"),
        ("serve: {serve: {port: 1}}", "both.yaml: unknown option of tandem serve 'serve'. Known: "),
        ("serve: {api_key: x}", "both.yaml: serve: 'api_key': a key does not belong in a file of options"),
        ("serve: 8080", "both.yaml: 'serve' is a section; it holds options of `tandem serve`"),
    ],
)
@pytest.mark.parametrize("command", ["run", "serve"])
def test_both_commands_refuse_what_is_wrong_with_either_part(
    cli: Cli, beside: None, command: str, text: str, refusal: str
) -> None:
    Path("both.yaml").write_text(f"mentor: fake\n{text}\n")
    assert said(cli(command, "--config", "both.yaml")).startswith(refusal)


def test_two_names_of_one_option_are_one_option(cli: Cli, beside: None) -> None:
    Path("both.yaml").write_text("mentor: fake\nport: 1\nlisten: 2\n")
    assert said(cli("serve", "--config", "both.yaml")) == (
        "both.yaml: 'listen': the same option is given by another of its names"
    )


def test_values_of_the_other_command_are_its_own_affair(cli: Cli, beside: None) -> None:
    Path("both.yaml").write_text("mentor: fake\nlimit: 0\nrun: {seed: no number}\n")
    assert cli("serve", "--config", "both.yaml").code == 0
    assert "'limit': 0 is not in the range x>=1." in said(cli("run", "--config", "both.yaml"))


# What is refused


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("concurrency: 0", "'concurrency': 0 is not in the range x>=1."),
        ("concurrency: 2.5", "'concurrency': '2.5' is not a valid integer range."),
        ("limit: true", "'limit': 'true' is not a valid integer range."),
        ("max_usd: -1", "'max_usd': -1.0 is not in the range x>0."),
        ("temperature: .nan", "'temperature': '.nan' is not a valid float range."),
        ("temperature: nan", "'temperature': nan is not a finite number."),
        ("pace: egar", "'pace': 'egar' is not one of 'auto', 'eager', 'thrifty'."),
        ("run: {pace: egar}", "run: 'pace': 'egar' is not one of 'auto', 'eager', 'thrifty'."),
        ("no-grade: perhaps", "'no-grade': 'perhaps' is not a valid boolean."),
        ("prices: .", "'prices': File '.' is a directory."),
        ("mentor-gpus: [0, x]", "'mentor-gpus': '0,x' is not a list of numbers such as 0,1,2"),
        ("split: [a, b]", "'split': takes one value, not a list"),
        ("no-grade: [true]", "'no-grade': takes one value, not a list"),
        ("split: {a: b}", "'split': a mapping is not a value here"),
        ("level: [[1]]", "'level': a list is not a value here"),
        ("level: [{a: b}]", "'level': a mapping is not a value here"),
        ("level: [1, ~]", "'level': an item of the list is null"),
        ("split: !env SPLIT", "'split': the tag !env means nothing here"),
        ("level: [!env SPLIT]", "'level': the tag !env means nothing here"),
        ("split: !!python/name:os.system", "'split': the tag !!python/name:os.system means nothing here"),
        ('out: "a\\0b"', "'out': holds a character that no flag could"),
        ('split: "\\uD800"', "'split': holds a character that no flag could"),
        ("run: starter", "'run' is a section; it holds options of `tandem run`"),
        ("concurency: 3", "unknown option 'concurency'. Did you mean concurrency?"),
        ("max_minuts: 3", "unknown option 'max_minuts'. Did you mean max-minutes, "),
        ("concurency: null", "unknown option 'concurency'. Did you mean concurrency?"),
        ("concurency: {a: b}", "unknown option 'concurency'. Did you mean concurrency?"),
        ("run: {concurency: 3}", "unknown option of tandem run 'concurency'. Did you mean concurrency?"),
        ("as_json: true", "unknown option 'as_json'."),
        ("config: other.yaml", "unknown option 'config'."),
        ("help: true", "unknown option 'help'."),
        ("--seed: 3", "unknown option '--seed'. Did you mean seed"),
        ('"a\\nb": 3', "unknown option 'a b'."),
        ("<<: {seed: 3}", "unknown option '<<'."),
        ("? [seed]\n: 3", "line 4: a key is the name of an option"),
        ("max-usd: 1\nmax-usd: 2", "'max-usd' is given twice, in lines 4 and 5"),
        ("max-usd: 1\nmax_usd: 1", "'max_usd' is given twice, in lines 4 and 5"),
        ("run: {}\nrun: {}", "'run' is given twice, in lines 4 and 5"),
        ("seed: &a 3\nlimit: *b", "not YAML: line 5: found undefined alias 'b'"),
        ("seed: [3", "not YAML: line 4: expected ',' or ']', but got '<stream end>'"),
        ("seed: 3\n\tlimit: 3", "not YAML: line 5: "),
        ("seed: 3\n---\nseed: 3", "not YAML: line 5: but found another document"),
        ("split: \x07", "not YAML: unacceptable character #x0007"),
    ],
)
def test_a_bad_line_is_named_with_its_file(cli: Cli, text: str, refusal: str) -> None:
    write(text)
    assert said(cli("run", "--config", "run.yaml")).startswith(f"run.yaml: {refusal}")


def test_brackets_without_end(cli: Cli) -> None:
    write(f"split: {'[' * 20_000}")
    assert said(cli("run", "--config", "run.yaml")) == "run.yaml: not YAML: nested too deeply"


def test_the_sentence_in_full(cli: Cli) -> None:
    write("concurrency: 0")
    assert cli("run", "--config", "run.yaml").err == "tandem: run.yaml: 'concurrency': 0 is not in the range x>=1.\n"


def test_a_bad_line_is_bad_though_a_flag_wins_over_it(cli: Cli) -> None:
    write("concurrency: 0")
    assert "'concurrency'" in said(cli("run", "--config", "run.yaml", "--concurrency", "3"))


@pytest.mark.parametrize("content", ["", "# mentor: gpt-4o\n", "~", "mentor", "- mentor: fake", "[]", "3"])
def test_a_file_that_is_no_mapping(cli: Cli, content: str) -> None:
    Path("run.yaml").write_text(content)
    refusal = said(cli("run", *FAKES, "--dataset", "starter", "--config", "run.yaml"))
    assert refusal == "run.yaml: no options in it; they are lines such as `mentor: gpt-4o`"


def test_a_file_that_is_not_there_is_no_file_or_no_text(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"split: caf\xe9\n")
    (tmp_path / "wide.yaml").write_bytes("mentor: fake\n".encode("utf-16"))
    assert said(cli("run", "--config", "no.yaml")) == "no.yaml: no such file"
    assert said(cli("run", "--config", "folder.yaml")) == "folder.yaml: Is a directory"
    for name in ("latin.yaml", "wide.yaml"):
        refusal = said(cli("run", "--config", name))
        assert refusal.startswith(f"{name}: not UTF-8 text (") and refusal.endswith("; save it as UTF-8")
    assert said(cli("run", "--config", "")) == "--config needs a file"
    assert said(cli("run", "--config")).startswith("Option '--config' requires an argument.")


@pytest.mark.parametrize(
    "key",
    [
        *("api_key", "api-key", "apiKey", "openai_api_key", "OPENAI_API_KEY", "mentor-api-key", "api_keys", "key"),
        *("openai-key", "token", "hf_token", "access-token", "password", "secret", "client_secret", "Authorization"),
    ],
)
def test_a_key_in_the_file_is_refused_and_not_shown(cli: Cli, key: str) -> None:
    for text in (f"{key}: {SECRET}", f"{key}:", f"run: {{{key}: {SECRET}}}", f"run: {{{key}: [{SECRET}]}}"):
        write(text)
        refusal = said(cli("run", "--config", "run.yaml"))
        assert f"'{key}': a key does not belong in a file of options; put it into the environment" in refusal
        assert SECRET not in refusal


def test_every_option_of_both_commands_has_its_place_and_none_is_taken_for_a_secret() -> None:
    def example(option: click.Parameter) -> str:
        if isinstance(option.type, UnitName):
            return "tflops-published"
        return option.type.choices[-1] if isinstance(option.type, click.Choice) else "1"

    lines: dict[str, Any] = {}
    for command in (run, serve):
        named = [(long.removeprefix("--"), option) for option in command.params for long in option.opts]
        values = {name: example(option) for name, option in named if name != "config"}
        lines = {**lines, **values, str(command.name): values}
    Path("run.yaml").write_text(yaml.safe_dump(lines))
    assert parsed("--config", "run.yaml")["mentor_max_tokens"] == 1


def test_what_is_missing_from_file_and_flags_is_said_as_ever(cli: Cli) -> None:
    Path("run.yaml").write_text("mentor: fake\n")
    assert said(cli("run", "--config", "run.yaml")).startswith("Missing option '--intern'.")
    assert said(cli("run", "--config", "run.yaml", "--intern", "fake")).startswith("Missing option '--dataset'.")


# Around it


def test_the_help_tells_of_it_and_yaml_is_read_only_for_a_file(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom tandem.cli import main\ntry: main(sys.argv[1:])\n"
        "except SystemExit: print('yaml' in sys.modules, 'tandem.cli.config_file' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, "run", "--help"], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    told = " ".join(ended.stdout.split())
    assert "--config FILE" in told and "relative paths start where the command is called" in told
    assert told.endswith("False False")


def test_the_example_of_the_help_is_a_file_that_is_taken() -> None:
    option = next(param for param in run.params if param.name == "config")
    assert isinstance(option, click.Option) and option.help
    Path("example.yaml").write_text(option.help.partition("\b\n")[2])
    found = parsed("--config", "example.yaml")
    assert found["mentor"] == "gpt-4o" and found["max_usd"] == 5 and found["no_grade"] is True
    assert found["subject"] == ("Algebra", "Geometry")


# Whatever is said


def texts() -> st.SearchStrategy[str]:
    """Return a strategy of texts: those that YAML is famous for, and any others that a flag could carry."""
    tricky = ("no", "on", "Null", "~", "010", "0x1f", "1_000", "1e3", "1:30", "2026-11-22", ".inf", "- a", "a: b", "<<")
    any_text = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
    return st.sampled_from(tricky) | any_text.filter(lambda text: not text.startswith("~/"))


def values(option: click.Option) -> st.SearchStrategy[Any]:
    """Return a strategy of values that an option takes, as YAML has them."""
    found = st.booleans() if option.is_flag else texts()
    match option.type:
        case click.Choice(choices=choices):
            found = st.sampled_from(list(choices))
        case FiniteNumber(max=most):
            found = st.floats(0.001, 1 if most else 1e15) | st.just(1)
        case UnitName():
            found = st.sampled_from(UNITS).map(lambda unit: unit.replace("_", "-"))
        case Numbers():
            found = st.lists(st.integers(0, 99), min_size=1, max_size=3).map(lambda many: ",".join(map(str, many)))
        case click.Path():
            found = st.from_regex(r"[a-z0-9][a-z0-9.]{3,8}(/[a-z]{1,5})?", fullmatch=True)
        case kind if isinstance(kind, type(click.INT)):  # a range, too
            found = st.integers(1, 10**12)
    if not isinstance(option.flag_value, str):
        return found
    # A flag that may have a value: `true` is the flag alone, and after a dash click reads the next flag.
    return found.filter(lambda value: value.lower() not in ("true", "false") and not value.startswith("-"))


SCALARS = {
    option.opts[0].removeprefix("--"): option
    for option in run.params
    if isinstance(option, click.Option) and not option.multiple and option.name != "config"
}


@given(st.fixed_dictionaries({}, optional={name: values(option) for name, option in SCALARS.items()}), st.data())
def test_any_options_in_a_file_are_parsed_as_the_flags_are(found: dict[str, Any], data: st.DataObject) -> None:
    found = {**NEEDED, **found}
    flags = [f"--{n}" if v is True else f"--{n}={v}" for n, v in found.items() if v is not False]
    snake = data.draw(st.sets(st.sampled_from(sorted(found))), label="written in snake_case")
    inside = data.draw(st.sets(st.sampled_from(sorted(found))), label="in the section")
    lines: dict[str, Any] = {"run": {}}
    for name, value in found.items():
        (lines["run"] if name in inside else lines)[name.replace("-", "_") if name in snake else name] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        path.write_text(yaml.safe_dump(lines, allow_unicode=data.draw(st.booleans())), encoding="utf-8")
        assert parsed("--config", str(path)) == parsed(*flags)
