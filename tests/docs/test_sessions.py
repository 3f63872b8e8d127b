"""README, tutorial, troubleshooting: every command on them runs, in order, and prints what stands there.

`pytest tests/docs/test_sessions.py --rewrite` writes the outputs that have changed into the pages.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pages import TOP
from sessions import again, alike, cut, steps

PAGES = ("README.md", "docs/tutorial.md", "docs/troubleshooting.md")


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_what_its_commands_print(page: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    path = TOP / page
    text = path.read_text()
    assert sum(bool(step.shown) for step in steps(text)) >= 4
    made = again(text, tmp_path, fails=page.endswith("troubleshooting.md"))
    if request.config.getoption("--rewrite"):
        path.write_text(made)
    else:
        assert made == text


def test_a_session_is_read_and_its_output_cut() -> None:
    text = """```console
$ tandem run --limit 3 \\
    --estimate
first
…
last
$ tandem doctor
```

```python
print(1)
```

```text
1
```
"""
    one, two, three = steps(text)
    assert (one.command, one.shown) == ("tandem run --limit 3      --estimate", "first\n…\nlast\n")
    assert (two.command, two.shown) == ("tandem doctor", "")
    assert (three.command, three.shown, three.program) == ("print(1)\n", "1\n", True)
    assert all(text[slice(*step.span)] == step.shown for step in (one, two, three))
    assert cut("a\nb\nc\nd\n", one.shown) == "a\n…\nd\n" and cut("a\nb\n", "x\n") == "a\nb\n"
    assert cut("a\nb\nTandem pays. Much\nc\nd\n", "…\nTandem pays. Less\n…\nx\n") == "…\nTandem pays. Much\n…\nd\n"
    assert cut("a\nb\n", "x\n…\n") == "a\n…\n"
    assert cut(f"{'word ' * 30}\n", "") == f"{('word ' * 23).strip()}\n{('word ' * 7).strip()}\n"


def test_only_the_clock_may_differ() -> None:
    assert alike("40 problems in 2.3 s, 17 tokens/s, 0:00:03 left") == alike(
        "40 problems in 9 s, 2.5 tokens/s, 0:00:11 left"
    )
    assert alike("accuracy 0.60") != alike("accuracy 0.61") and alike("US$ 0.05") != alike("US$ 0.06")
