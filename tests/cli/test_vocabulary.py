"""One vocabulary over all commands: an option is called the same, means the same and has its place in the help."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from commands import FAKES, Cli, dataset

import tandem.cli
from tandem.cli import cli as top

NAME = "a[local]:key:"  # what rich would take for a style and for an emoji
LONG = ("run", "solve", "compare", "tune", "serve", "collect", "train")


def walk(command: click.Command = top, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner
            yield from walk(inner, (*path, name))
    else:
        yield " ".join(path), command


COMMANDS = dict(walk())


def options(command: click.Command) -> dict[str, click.Option]:
    return {opt: p for p in command.params if isinstance(p, click.Option) and not p.hidden for opt in p.opts}


def test_an_option_of_several_commands_takes_the_same_everywhere() -> None:
    defaults, shown = set(), set()
    for path, command in COMMANDS.items():
        known = options(command)
        assert ("--mentor-max-tokens" in known) == ("--intern-max-tokens" in known), path
        assert "--max-tokens" not in known, path
        if "--backend" in known:
            defaults.add(known["--backend"].default)
        if "--mentor" in known:
            assert "--config" in known, path
        for name, option in known.items():
            if name in ("--concurrency", "--seed", "--mentor-max-tokens"):
                shown.add(option.metavar)
    assert defaults == {"auto"} and shown == {"N"}


def test_every_command_has_its_place_in_the_list_once() -> None:
    listed = [name for names in tandem.cli._TOGETHER for name in names]
    assert sorted(listed) == sorted(tandem.cli._COMMANDS)
    for path, command in COMMANDS.items():
        if " " in path:  # of a group, whose help has the whole sentence
            outer = top.get_command(click.Context(top), path.split()[0])
            assert outer
            shown = " ".join(outer.get_help(click.Context(outer, info_name=path)).split())
            assert command.get_short_help_str(limit=300) in shown and not shown.endswith("...")


def test_no_help_names_a_type_of_click() -> None:
    for path, command in COMMANDS.items():
        with click.Context(command, info_name=path) as ctx:
            assert " RANGE" not in command.get_help(ctx), path


@pytest.mark.parametrize("name", LONG)
def test_a_long_help_has_sections_and_examples_of_installed_commands(cli: Cli, name: str) -> None:
    told = cli(name, "--help").out
    heads = [line for line in told.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert heads[-1] == "Input and output:" and {"Prices and speed:"} <= set(heads)
    examples = [line.strip() for line in told.splitlines() if line.strip().startswith("tandem ")]
    assert any(f"tandem {name}" in line for line in examples)
    assert "scripts/" not in told and "python " not in told
    for option in options(COMMANDS[name]):
        assert option in told


def test_a_collection_still_takes_one_cap_for_both_models(cli: Cli, tmp_path: Path) -> None:
    asked = ("collect", *FAKES, "--dataset", dataset(tmp_path / "own.jsonl", 3), "--effort", "none,low,answer")
    assert cli(*asked, "--max-tokens", "77", "--out", "old").code == 0
    assert cli(*asked, "--mentor-max-tokens", "77", "--intern-max-tokens", "77", "--out", "new").code == 0
    plans = [json.loads(Path(name, "collection.json").read_text()) for name in ("old", "new")]
    assert plans[0]["ladder"] == plans[1]["ladder"] and "77" in json.dumps(plans[0])
    for key in ("max_tokens", "mentor_max_tokens", "intern_max_tokens", "plan", "settings"):
        assert plans[0].get(key) == plans[1].get(key)


# Brackets


@pytest.fixture
def bracketed(cli: Cli, tmp_path: Path) -> str:
    """Run two strategies over a data set and into folders whose names have brackets; return the data set's name."""
    rows = [{"id": f"{NAME}{n}", "problem": f"{NAME} is {n}", "answer": "7"} for n in range(3)]
    file = tmp_path / f"{NAME}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for strategy in ("intern-only", "mentor-only"):
        asked = ("run", *FAKES, "--dataset", file.name, "--strategy", strategy, "--out", f"runs/{NAME}-{strategy}")
        assert cli(*asked).code == 0
    return file.name


def test_a_name_with_brackets_is_printed_as_it_is(cli: Cli, bracketed: str) -> None:
    one, other = (f"runs/{NAME}-{strategy}" for strategy in ("intern-only", "mentor-only"))
    asked = [
        ("runs", "list"),
        ("runs", "show", one),
        ("runs", "diff", one, other),
        ("report", one),
        ("datasets", "show", bracketed),
        ("solve", *FAKES, f"What is {NAME}?"),
        ("demo", *FAKES, f"What is {NAME}?"),
        ("grade", one, "--verbose"),
        ("compare", one, other, "--out", f"compared{NAME}"),
        ("report", f"compared{NAME}"),
        ("run", *FAKES, "--dataset", bracketed, "--estimate"),
    ]
    for arguments in asked:
        outcome = cli(*arguments)
        assert outcome.code == 0, outcome.err
        told = outcome.out + outcome.err
        assert "🔑" not in told, arguments
        if arguments[0] not in ("solve", "demo", "grade", "run"):  # which need not repeat the name
            assert NAME in told.replace("\n", ""), arguments
    for arguments in (
        ("run", *FAKES, "--dataset", f"no{NAME}.jsonl"),
        ("report", f"no{NAME}"),
        ("models", "show", NAME),
    ):
        outcome = cli(*arguments)
        assert outcome.code in (1, 2) and NAME in outcome.err


def test_advice_on_extras_keeps_their_brackets(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    told = cli("doctor").out
    assert "pip install 'tandem-reasoning[local]'" in told
