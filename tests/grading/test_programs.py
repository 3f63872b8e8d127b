"""Which program a text gives."""

from __future__ import annotations

import pytest

from tandem.grading import extract_answer

F = "def f():\n    return 1"
PROGRAMS = [
    # fences
    (f"```python\na = 1\n```\nbetter:\n```python\n{F}\n```\ndone", F),
    (f"```python\n{F}\n```\nwhich prints\n```\n1\n```", F),
    (f"```\n{F}\n```", F),
    (f"```bash\npip install x\n```\n```py\n{F}\n```", F),
    (f"1. First:\n   ```python\n   {F.replace(chr(10), chr(10) + '   ')}\n   ```", F),
    (f"```Python3\n{F}\n```", F),
    (f"```python\r\n{F.replace(chr(10), chr(13) + chr(10))}\r\n```\r\n", F),
    # a last fence that never closes: the answer was cut
    (f"Here:\n```python\n{F}", F),
    (f"Here:\n```python\n{F}\n    x = (1,", None),
    (f"```python\n{F}\n```\n```python\na = (", F),
    (f"```python\nbroken(\n```python\n{F}\n```", F),
    (f"```bash\nls\n```\n```python\n{F}", F),
    (f"```python\nbroken(\n```\nagain:\n```python\n{F}", F),  # budget forcing: the first was cut, the last is whole
    ("```python\nbroken(\n```\nagain:\n```python\na = (", "broken("),
    # no fence at all
    (F, F),
    (f"import math\n\n{F}\n", f"import math\n\n{F}"),
    ("class A:\n    pass", "class A:\n    pass"),
    ("    x = 1\n    return x\n", "    x = 1\n    return x"),
    ("print(1)", None),
    ("no program here", None),
    (f"Sure, here it is: {F}", None),
    ("", None),
    # thinking
    (f"<think>```python\na = 1\n```</think>```python\n{F}\n```", F),
    ("<think>```python\na = 1\n```</think>cannot do it", None),
    (f"<think>```python\n{F}\n```", None),
    (f"<think>hm</think>\n{F}", F),
]


@pytest.mark.parametrize(("text", "found"), PROGRAMS)
def test_the_program_of_a_text(text: str, found: str | None) -> None:
    assert extract_answer("code", text) == found


@pytest.mark.parametrize(
    "text", ["(" * 90_000, "x = " + "-" * 90_000 + "1", "a." * 40_000 + "b", "def f():\n\0", "1+" * 40_000]
)
def test_what_breaks_parsers_is_no_program(text: str) -> None:
    assert extract_answer("code", text) is None
    assert extract_answer("code", f"```python\n{text}\n```") == text  # closed: taken as it is, the sandbox will tell
