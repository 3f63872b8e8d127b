"""The programs on the pages: they run, as they stand there, and do what is said of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from pages import blocks

pytestmark = pytest.mark.slow


def environment(home: Path, **more: str) -> dict[str, str]:
    """Return an environment without the user's keys and settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TANDEM_", "OPENAI_"))}
    return own | {"TANDEM_HOME": str(home / "home"), "COLUMNS": "100"} | more


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Lay the package of extending.md out as an installation does."""
    found = {block.title: block.text for block in blocks("extending.md") if block.title}
    project = tomllib.loads(found.pop("pyproject.toml"))
    groups = project["project"]["entry-points"]
    assert set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]) == found.keys()
    site = tmp_path / "site"
    info = site / "tandem_example-1.0.dist-info"
    info.mkdir(parents=True)
    for name, text in found.items():
        (site / name).write_text(text)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tandem-example\nVersion: 1.0\n")
    lines = []
    for group, names in groups.items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in names.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return site


def tandem(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tandem", *words]
    return subprocess.run(
        command,
        env=environment(site.parent, PYTHONPATH=os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])),
        cwd=site.parent,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def solution(site: Path, *words: str) -> dict[str, object]:
    done = tandem(site, "solve", *words, "--json", "What is 17*23?")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_the_backend(package: Path) -> None:
    (package.parent / "answers.json").write_text(json.dumps({"17*23": "Work it out: the answer is \\boxed{391}"}))
    pair = ("--mentor", "canned:answers.json", "--intern", "fake")
    found = solution(package, *pair, "--strategy", "mentor-only")
    assert (found["answer"], found["answered_by"]) == ("391", "mentor")
    cut = solution(package, *pair, "--strategy", "mentor-only", "--mentor-max-tokens", "3")
    assert cut["truncated"] is True and cut["text"] == "Work it out: "
    as_mentor = solution(package, *pair, "--strategy", "fixed:low=4")
    assert as_mentor["answered_by"] == "intern" and as_mentor["insight"] == "Work it out: the"
    refused = tandem(package, "solve", "--mentor", "canned:none.json", "--intern", "fake", "x")
    assert refused.returncode == 2 and refused.stderr.startswith("tandem: the answers in none.json cannot be read")
    refused = tandem(package, "solve", "--mentor", "fake", "--intern", "canned:answers.json", "What is 1+1?")
    assert "log-probabilities" in refused.stderr and refused.returncode == 2


def test_the_backend_is_a_model(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(package)
    from tandem_canned import Canned  # type: ignore[import-not-found]

    from tandem.models.base import Model
    from tandem.spec import ModelSpec

    (package.parent / "answers.json").write_text("{}")
    assert isinstance(Canned(ModelSpec(name="canned"), str(package.parent / "answers.json")), Model)


def test_the_strategy(package: Path) -> None:
    (package.parent / "silent.json").write_text(
        json.dumps({"rules": [{"text": "I cannot say what that is, and will not guess."}]})
    )
    sure = solution(package, "--mentor", "fake", "--intern", "fake", "--strategy", "fallback")
    assert (sure["answered_by"], sure["level"], sure["strategy"]) == ("intern", "none", "fallback")
    unsure = solution(package, "--mentor", "fake", "--intern", "fake:silent.json", "--strategy", "fallback")
    assert (unsure["answered_by"], unsure["answer"]) == ("mentor", "23")
    entries = [(e["role"], e["purpose"]) for e in unsure["ledger"]["entries"]]  # type: ignore[index]
    assert entries == [("intern", "probe"), ("mentor", "answer")]
    pair = ("--mentor", "fake", "--intern", "fake", "--strategy", "fallback", "--dataset", "starter", "--limit", "2")
    estimate = tandem(package, "run", *pair, "--estimate", "--json")
    assert estimate.returncode == 0, estimate.stderr


def test_the_strategy_of_the_architecture_page(package: Path) -> None:
    (block,) = [block for block in blocks("architecture.md") if block.title]
    assert block.title and len(block.text.splitlines()) <= 60
    (package / block.title).write_text(block.text)
    entry_points = package / "tandem_example-1.0.dist-info" / "entry_points.txt"
    line = "fallback = tandem_fallback:Fallback"
    text = entry_points.read_text()
    assert line in text
    entry_points.write_text(text.replace(line, f"{line}\nconsensus = tandem_consensus:Consensus"))
    pair = ("--mentor", "fake", "--intern", "fake", "--strategy", "consensus")
    agreed = solution(package, *pair)
    assert (agreed["answered_by"], agreed["level"], agreed["answer"]) == ("intern", "none", "23")
    purposes = [(e["role"], e["purpose"]) for e in agreed["ledger"]["entries"]]  # type: ignore[index]
    assert sorted(purposes) == [("intern", "answer"), ("intern", "probe"), ("intern", "probe")]
    (package.parent / "silent.json").write_text(
        json.dumps({"rules": [{"text": "I cannot say what that is, and will not guess."}]})
    )
    handed = solution(package, "--mentor", "fake", "--intern", "fake:silent.json", "--strategy", "consensus")
    assert handed["answered_by"] == "mentor"
    purposes = [(e["role"], e["purpose"]) for e in handed["ledger"]["entries"]]  # type: ignore[index]
    assert purposes == [("intern", "probe")] * 3 + [("mentor", "answer")]
    estimate = tandem(package, "run", *pair, "--dataset", "starter", "--limit", "2", "--estimate", "--json")
    assert estimate.returncode == 0, estimate.stderr


def test_the_data_set_and_the_grader(package: Path) -> None:
    shown = tandem(package, "datasets", "show", "doublings")
    assert shown.returncode == 0 and "What is 2 * 1?" in shown.stdout and "problems     5" in shown.stdout
    for answer, small, large in ((6, 0.2, 1.0), (7, 0.0, 0.0)):  # the double of 3; an even number
        (package.parent / f"{answer}.json").write_text(json.dumps({"rules": [{"text": f"\\boxed{{{answer}}}"}]}))
        pair = ("--mentor", "fake", "--intern", f"fake:{answer}.json", "--strategy", "intern-only")
        for split, right in (("small", small), ("large", large)):
            out = f"{split}-{answer}"
            done = tandem(package, "run", *pair, "--dataset", "doublings", "--split", split, "--out", out, "--json")
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["accuracy"] == right
    refused = tandem(package, "datasets", "show", "doublings", "--split", "huge")
    assert (refused.returncode, refused.stderr) == (2, "tandem: doublings has the splits small and large, not 'huge'\n")


def programs(page: str) -> str:
    found = [block.text for block in blocks(page) if block.language == "python"]
    assert found
    return "\n".join(found)


def test_python_on_the_first_page(tmp_path: Path) -> None:
    done = run(programs("../README.md"), tmp_path)
    assert "answer: 23" in done and re.search(r"^[1-9]\d*$", done, re.MULTILINE)


def test_python_on_the_page_on_tuning(tmp_path: Path) -> None:
    done = run(programs("tune.md"), tmp_path)
    assert done.startswith("Tandem pays. ") and "True tandem tuned/comparison/report.html" in done
    assert "Synthetic" in done and (tmp_path / "tuned" / "comparison" / "report.html").is_file()


def test_python_on_the_page_on_comparing(tmp_path: Path) -> None:
    done = run(programs("compare.md"), tmp_path)
    assert done.startswith("What 40 problems cost at most\nstrategy ") and "compared/report.html" in done
    assert re.search(r"^tandem +\d+\.\d % ", done, re.MULTILINE) and "Synthetic" in done


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serve the fake pair; yield the base URL."""
    command = [sys.executable, "-m", "tandem", "serve", "--mentor", "fake", "--intern", "fake", "--port", "0"]
    with subprocess.Popen(
        command, env=environment(tmp_path), cwd=tmp_path, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr
            said = process.stderr.readline()
            found = re.search(r"http://\S+/v1", said)
            assert found, said + process.stderr.read()
            yield found[0]
        finally:
            process.terminate()


def test_the_recipe_for_the_openai_client(server: str, tmp_path: Path) -> None:
    program = "\n".join(block.text for block in blocks("recipes.md") if block.language == "python")
    assert "http://127.0.0.1:8080/v1" in program
    shown = run(program.replace("http://127.0.0.1:8080/v1", server), tmp_path)
    first, insight, *rest = shown.splitlines()
    assert "\\boxed{23}" in first and int(insight) >= 0
    streamed = "\n".join(rest)
    assert "find the quantity" in streamed and "\\boxed{23}" in streamed
    assert "answered by intern at level low" in streamed and "total tokens:" in streamed


def run(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(folder),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
