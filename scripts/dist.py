"""Build wheel and sdist into dist/, check what is in them, and try the wheel in an empty environment.

It is tried in another folder, without the checkout: `tandem demo`, a run on the fake models, and a request to
`tandem serve`. Without --install only building and checking are done.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from email import message_from_bytes
from pathlib import Path

TOP = Path(__file__).resolve().parents[1]
SHIPPED = ("classifiers", "data")  # inside the wheel below tandem/_shipped
FAKES = ("--mentor", "fake", "--intern", "fake")
_CODE = re.compile(r"(^|/)(tests?|__pycache__)(/|$)|\.pyc$")


class Unfit(Exception):
    """A package that must not be published, with the reason."""


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--out", type=Path, default=TOP / "dist", metavar="DIR")
    words.add_argument("--install", action=argparse.BooleanOptionalAction, default=True)
    given = words.parse_args()
    try:
        wheel, sdist = build(given.out)
        check_wheel(wheel)
        check_sdist(sdist)
        for path in (wheel, sdist):
            print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB, complete")
        if given.install:
            with tempfile.TemporaryDirectory() as folder:
                try_wheel(wheel, Path(folder))
    except (Unfit, subprocess.SubprocessError) as error:
        print(f"dist: {error}", file=sys.stderr)
        return 1
    return 0


def build(out: Path) -> tuple[Path, Path]:
    """Return the wheel and the sdist that it was built from, the only ones in the folder."""
    shutil.rmtree(out, ignore_errors=True)
    run(Path(sys.executable), "-m", "build", "--outdir", str(out), str(TOP), cwd=TOP)
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def tracked() -> list[str]:
    """Return the files of the repository."""
    found = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, check=True, capture_output=True, text=True).stdout
    return [name for name in found.split("\0") if name and (TOP / name).is_file()]


def check_wheel(wheel: Path) -> None:
    """Raise Unfit unless the wheel holds exactly the package, what ships with it, licence and metadata."""
    wanted = {name for name in tracked() if name.startswith("tandem/")}
    wanted |= {f"tandem/_shipped/{name}" for name in tracked() if name.startswith(tuple(f"{one}/" for one in SHIPPED))}
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        info = next(name for name in names if name.endswith(".dist-info/METADATA")).rpartition("/")[0]
        metadata = message_from_bytes(archive.read(f"{info}/METADATA"))
        scripts = archive.read(f"{info}/entry_points.txt").decode()
    extra = {name for name in names - wanted if not name.startswith(f"{info}/")}
    _same(wheel.name, wanted - names, extra | {name for name in names if _CODE.search(name)})
    if f"{info}/licenses/LICENSE" not in names or "tandem = tandem.cli:main" not in scripts:
        raise Unfit(f"{wheel.name} lacks the licence or the command")
    version = re.search(r'"(.+)"', (TOP / "tandem" / "version.py").read_text().partition("__version__")[2])
    if version is None or metadata["Version"] != version[1]:
        raise Unfit(f"{wheel.name} says version {metadata['Version']}")
    if metadata["Description-Content-Type"] != "text/markdown" or "# Tandem" not in str(metadata.get_payload()):
        raise Unfit(f"{wheel.name} has no readable description")


def check_sdist(sdist: Path) -> None:
    """Raise Unfit unless the sdist holds files of the repository alone, and all that the package is built from."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames() if not archive.getmember(name).isdir()}
    known = set(tracked())
    needed = {name for name in known if name.startswith(("tandem/", *(f"{one}/" for one in SHIPPED)))}
    needed |= {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE"}
    _same(sdist.name, needed - names, names - known - {"PKG-INFO"})


def _same(name: str, lacking: set[str], extra: set[str]) -> None:
    for what, files in (("lacks", lacking), ("should not hold", extra)):
        if files:
            raise Unfit(f"{name} {what} {len(files)} files, such as {', '.join(sorted(files)[:3])}")


def try_wheel(wheel: Path, folder: Path) -> None:
    """Install the wheel into an empty environment and use it from an empty folder."""
    home, work = folder / "venv", folder / "work"
    work.mkdir()
    python, tandem = home / "bin" / "python", home / "bin" / "tandem"
    pip = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "-c", str(TOP / "constraints.txt"))
    run(Path(sys.executable), "-m", "venv", str(home), cwd=work)
    began = time.monotonic()
    run(python, *pip, str(wheel), cwd=work)
    size = sum(path.lstat().st_size for path in home.rglob("*") if path.is_file()) / 1e6
    print(f"installed without extras in {time.monotonic() - began:.0f} s: {size:.0f} MB")
    where = run(python, "-c", "import tandem; print(tandem.__file__)", cwd=work)
    if not where.startswith(str(home)):
        raise Unfit(f"another tandem was imported: {where}")
    run(tandem, "demo", cwd=work)
    print("tandem demo: shown")
    run(tandem, "run", *FAKES, "--dataset", "starter", "--limit", "4", "--out", "run", cwd=work)
    summary = json.loads((work / "run" / "summary.json").read_text())
    if (summary["n"], summary["errors"]) != (4, 0):
        raise Unfit(f"the run ended with {summary['n']} problems and {summary['errors']} errors")
    print("tandem run: 4 problems solved and graded")
    shown = run(tandem, "classifiers", "list", cwd=work)
    if "qwen2.5-coder" not in shown:
        raise Unfit("the shipped classifier is not found")
    run(python, *pip, f"{wheel}[serve]", cwd=work)
    print(f"tandem serve: answered {answered(tandem, work)!r}")


def answered(tandem: Path, work: Path) -> str:
    """Return what the server answers to a question."""
    words = [str(tandem), "serve", *FAKES, "--port", "0"]
    with subprocess.Popen(words, cwd=work, env=environment(work), stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            said = server.stderr.readline()
            found = re.search(r"http://\S+/v1", said)
            if found is None:
                raise Unfit(f"tandem serve did not start: {said}{server.stderr.read()}")
            _until_ready(found[0].removesuffix("/v1") + "/readyz")
            question = {"model": "tandem", "messages": [{"role": "user", "content": "What is 17*23?"}]}
            request = urllib.request.Request(
                f"{found[0]}/chat/completions", json.dumps(question).encode(), {"Content-Type": "application/json"}
            )
            with urllib.request.urlopen(request, timeout=60) as response:
                return str(json.load(response)["choices"][0]["message"]["content"])
        finally:
            server.terminate()


def _until_ready(url: str) -> None:
    """Wait until the server has made its models ready."""
    ends = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except urllib.error.HTTPError as error:
            if error.code != 503 or time.monotonic() > ends:
                raise Unfit(f"tandem serve is not ready: {error.read().decode()}") from None
        time.sleep(0.1)


def run(program: Path, *words: str, cwd: Path) -> str:
    """Return what a program prints. Raises Unfit with its errors where it fails."""
    done = subprocess.run(
        [str(program), *words], cwd=cwd, env=environment(cwd), capture_output=True, text=True, timeout=900, check=False
    )
    if done.returncode:
        raise Unfit(f"{program.name} {' '.join(words)} failed:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def environment(work: Path) -> dict[str, str]:
    """Return an environment that knows neither the checkout nor the user's settings."""
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("TANDEM_", "PYTHONPATH", "VIRTUAL_"))
    }
    return own | {"TANDEM_HOME": str(work / "home"), "XDG_CONFIG_HOME": str(work / "config"), "COLUMNS": "100"}


if __name__ == "__main__":
    sys.exit(main())
