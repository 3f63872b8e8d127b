"""Which GPUs, memory shares and cores each replica gets, and what a machine turns out to have."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tandem.errors import UsageError
from tandem.models.vllm.machine import GIB, Gpu, Machine, find_gpus, find_machine
from tandem.models.vllm.placement import SHARE, ResourceRequest, Size, place, place_pair

SMALL, LARGE = Size(weights=GIB, cache=GIB), Size(weights=15 * GIB, cache=2 * GIB)


def gpus(count: int, total: float = 80, free: float | None = None) -> Machine:
    """A machine with `count` cards of `total` GiB."""
    size, left = int(total * GIB), int((total - 1 if free is None else free) * GIB)
    return Machine(tuple(Gpu(n, size, left) for n in range(count)), (0, 1), None, "nvidia-smi lists no other")


def mentor(**wish: Any) -> ResourceRequest:
    return ResourceRequest("mentor", **{"size": LARGE, **wish})


def intern(**wish: Any) -> ResourceRequest:
    return ResourceRequest("intern", **{"size": SMALL, **wish})


@pytest.mark.parametrize(
    ("cards", "wish", "groups"),
    [
        (1, {}, [(0,)]),
        (2, {}, [(0,), (1,)]),
        (4, {}, [(0,), (1,), (2,), (3,)]),
        (8, {}, [(n,) for n in range(8)]),
        (2, {"tensor_parallel": 2}, [(0, 1)]),
        (4, {"tensor_parallel": 2}, [(0, 1), (2, 3)]),
        (8, {"tensor_parallel": 2}, [(0, 1), (2, 3), (4, 5), (6, 7)]),
        (3, {"tensor_parallel": 2}, [(0, 1)]),
        (8, {"gpus": (5, 2)}, [(5,), (2,)]),
        (8, {"gpus": (4, 5, 6, 7), "tensor_parallel": 2}, [(4, 5), (6, 7)]),
        (8, {"gpus": (4, 5, 6, 7), "replicas": 1}, [(4,)]),
        (8, {"replicas": 3}, [(0,), (1,), (2,)]),
    ],
)
def test_one_replica_for_each_gpu_or_group(cards: int, wish: dict[str, Any], groups: list[tuple[int, ...]]) -> None:
    places = place(intern(**wish), gpus(cards))
    assert [p.gpus for p in places] == groups
    assert [p.index for p in places] == list(range(len(groups)))
    assert {p.memory for p in places} == {SHARE}


@pytest.mark.parametrize(
    ("cards", "first", "second", "mentors", "interns"),
    [
        (1, {}, {}, [(0,)], [(0,)]),
        (2, {}, {}, [(0,)], [(1,)]),
        (4, {}, {}, [(0,)], [(1,), (2,), (3,)]),
        (8, {"tensor_parallel": 2}, {"tensor_parallel": 2}, [(0, 1)], [(2, 3), (4, 5), (6, 7)]),
        (2, {"tensor_parallel": 2}, {}, [(0, 1)], [(0,), (1,)]),
        (8, {"gpus": (0, 1, 2, 3), "tensor_parallel": 2}, {"gpus": (4, 5)}, [(0, 1), (2, 3)], [(4,), (5,)]),
        (4, {"gpus": (3,)}, {}, [(3,)], [(0,), (1,), (2,)]),
        (4, {}, {"gpus": (0, 1)}, [(2,), (3,)], [(0,), (1,)]),
        (2, {"gpus": (0, 1), "tensor_parallel": 2}, {}, [(0, 1)], [(0,), (1,)]),
        (2, {"gpus": (0, 1), "tensor_parallel": 2}, {"gpus": (1,)}, [(0, 1)], [(1,)]),
        (4, {"gpus": (0, 1)}, {"gpus": (1, 2)}, [(0,), (1,)], [(1,), (2,)]),
    ],
)
def test_mentor_and_intern_get_cards_of_their_own_where_there_are_enough(
    cards: int,
    first: dict[str, Any],
    second: dict[str, Any],
    mentors: list[tuple[int, ...]],
    interns: list[tuple[int, ...]],
) -> None:
    left, right = place_pair(mentor(**first), intern(**second), gpus(cards))
    assert ([p.gpus for p in left], [p.gpus for p in right]) == (mentors, interns)
    both = set(chain(*mentors)) & set(chain(*interns))
    for one in (*left, *right):
        assert one.memory is not None
        assert (one.memory < SHARE) == bool(both & set(one.gpus))


def test_models_that_share_a_card_get_what_they_need_and_half_of_the_rest() -> None:
    left, right = place_pair(mentor(), intern(), gpus(1))
    # 72 GiB to give, 17 + 2 needed: 17 + 26.5 and 2 + 26.5 of 80, rounded down to a thousandth
    assert (left[0].memory, right[0].memory) == (0.543, 0.356)


def test_a_share_leaves_out_what_other_processes_hold() -> None:
    assert place(intern(), gpus(1, total=24, free=12))[0].memory == 0.5
    left, right = place_pair(mentor(), intern(), gpus(1, total=80, free=20))
    assert (left[0].memory, right[0].memory) == (0.218, 0.031)


def test_a_card_that_shares_the_machines_memory_is_used_unmeasured() -> None:
    unified = Machine((Gpu(0),), (0, 1))
    assert place(mentor(), unified)[0].memory is None
    left, right = place_pair(mentor(), intern(), unified)
    assert left[0].memory is not None and right[0].memory is not None
    assert left[0].memory > right[0].memory
    assert left[0].memory + right[0].memory <= SHARE


def test_full_cards_are_passed_over_unless_they_are_named() -> None:
    cards = (Gpu(0, 80 * GIB, 2 * GIB), Gpu(1, 80 * GIB, 79 * GIB))
    machine = Machine(cards, (0,), None, "nvidia-smi lists no other")
    assert [p.gpus for p in place(mentor(), machine)] == [(1,)]
    with pytest.raises(UsageError, match=re.escape("GPU 0 has too little memory for the mentor (17.0 GiB): 17.0 GiB")):
        place(mentor(gpus=(0, 1)), machine)


sizes = st.builds(Size, st.integers(0, 100 * GIB), st.integers(GIB, 8 * GIB))


@given(
    cards=st.sampled_from([1, 2, 4, 8]),
    ways=st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4])),
    total=st.integers(8, 192),
    used=st.floats(0, 1),
    big=sizes,
    small=sizes,
)
def test_no_card_is_promised_more_than_it_has(
    cards: int, ways: tuple[int, int], total: int, used: float, big: Size, small: Size
) -> None:
    assume(max(ways) <= cards)
    machine = gpus(cards, total, total * (1 - used))
    wishes = mentor(tensor_parallel=ways[0], size=big), intern(tensor_parallel=ways[1], size=small)
    try:
        left, right = place_pair(*wishes, machine)
    except UsageError as error:
        assert "too little memory" in str(error)
        return
    for card in machine.gpus:
        here = [p.memory or 0 for p in (*left, *right) if card.index in p.gpus]
        assert len(here) <= 2
        assert sum(here) <= SHARE + 1e-9
        assert sum(here) * (card.total or 0) <= (card.free or 0) + card.total * 2e-6
    for places, wish in zip((left, right), wishes, strict=True):
        need = wish.size.need(wish.tensor_parallel)
        assert all((p.memory or 0) * total * GIB >= need - total * GIB / 1000 for p in places)


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"gpus": (7,)}, "there is no GPU 7 for the intern: it can have GPUs 0, 1, 2, 3 (nvidia-smi lists no other)"),
        ({"gpus": (-1,)}, "there is no GPU -1"),
        ({"gpus": (1, 2, 1)}, "GPU 1 is named twice for the intern"),
        ({"gpus": ()}, "no GPU is named for the intern"),
        ({"gpus": (0, 1, 2), "tensor_parallel": 2}, "the intern's 3 GPUs do not divide into groups of 2"),
        ({"gpus": (0,), "tensor_parallel": 2}, "tensor parallel 2 needs 2 GPUs for the intern; it has GPU 0"),
        ({"tensor_parallel": 8}, "tensor parallel 8 needs 8 GPUs for the intern; it has GPUs 0, 1, 2, 3"),
        ({"tensor_parallel": 2, "replicas": 3}, "3 replicas of the intern need 6 GPUs; it has GPUs 0, 1, 2, 3"),
        ({"replicas": 0}, "the intern needs at least one replica"),
        ({"tensor_parallel": 0}, "the intern needs at least one replica"),
        (
            {"size": Size(140 * GIB, 10 * GIB)},
            "GPU 0 has too little memory for the intern (150.0 GiB): 150.0 GiB needed, 79.0 of 80.0 GiB are free, "
            "72.0 of them to use",
        ),
        ({"size": Size(140 * GIB, 10 * GIB), "tensor_parallel": 2}, "75.0 GiB needed"),
    ],
)
def test_what_cannot_be_placed_on_gpus_is_said_in_one_line(wish: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)) as error:
        place(intern(**wish), gpus(4))
    assert "\n" not in str(error.value)


def test_too_little_memory_for_both_names_both() -> None:
    says = (
        "GPU 0 has too little memory for the mentor (17.0 GiB) and the intern (2.0 GiB): 19.0 GiB needed, 15.5 of 16.0"
    )
    with pytest.raises(UsageError, match=re.escape(says)):
        place_pair(mentor(), intern(), gpus(1, total=16, free=15.5))


@pytest.mark.parametrize(
    ("cores", "wish", "sets"),
    [
        (2, {}, [(0, 1)]),
        (2, {"replicas": 2}, [(0,), (1,)]),
        (8, {"replicas": 3}, [(0, 1), (2, 3, 4), (5, 6, 7)]),
    ],
)
def test_on_a_cpu_the_cores_are_divided_evenly(cores: int, wish: dict[str, Any], sets: list[tuple[int, ...]]) -> None:
    places = place(intern(**wish), Machine(cores=tuple(range(cores))))
    assert [p.cores for p in places] == sets
    assert all(p.gpus == () and p.memory is None for p in places)


def test_on_a_cpu_mentor_and_intern_have_cores_of_their_own() -> None:
    left, right = place_pair(mentor(), intern(), Machine(cores=(3, 5)))
    assert (left[0].cores, right[0].cores) == ((3,), (5,))
    left, right = place_pair(mentor(), intern(replicas=3), Machine(cores=tuple(range(8))))
    assert [p.cores for p in (*left, *right)] == [(0, 1), (2, 3), (4, 5), (6, 7)]
    left, right = place_pair(mentor(), intern(), Machine(cores=(4,)))
    assert left[0].cores == right[0].cores == (4,)


@pytest.mark.parametrize(
    ("wish", "says"),
    [
        ({"replicas": 3}, "3 replicas need 3 cores; this process may use 2"),
        ({"tensor_parallel": 2, "replicas": 2}, "tensor parallel 2 needs as many cores for each replica of the intern"),
        ({"size": Size(7 * GIB, 2 * GIB)}, "the intern (9.0 GiB): 9.0 GiB needed, 8.0 free; take fewer replicas"),
        ({"gpus": (0,)}, "there is no GPU 0 for the intern: there is no nvidia-smi"),
    ],
)
def test_what_cannot_be_placed_on_cores_is_said_in_one_line(wish: dict[str, Any], says: str) -> None:
    machine = Machine(cores=(0, 1), ram=8 * GIB, no_gpu="there is no nvidia-smi")
    with pytest.raises(UsageError, match=re.escape(says)):
        place(intern(**wish), machine)


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put a program `nvidia-smi` on the path that prints these lines for the query it expects."""

    def install(*lines: str, code: int = 0) -> None:
        program = tmp_path / "nvidia-smi"
        text = "\n".join(lines)
        program.write_text(
            "#!/bin/sh\n"
            'case "$*" in\n'
            '  "--query-gpu=index,uuid,memory.total,memory.free --format=csv,noheader,nounits")\n'
            f"    cat <<'END'\n{text}\nEND\n    exit {code};;\n"
            "esac\nexit 2\n"
        )
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return install


TWO = ("0, GPU-aaaa1111-0000, 81920, 81000", "1, GPU-bbbb2222-0000, 24576, 1000")
MIB = 1 << 20


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, [0, 1]),
        ("1", [1]),
        ("1,0", [1, 0]),
        (" 0 , 1 ", [0, 1]),
        ("GPU-bbbb", [1]),
        ("1,7,0", [1]),  # CUDA stops at the first that is not there
        ("", []),
        ("-1", []),
    ],
)
def test_the_cards_are_those_that_cuda_would_show(
    nvidia_smi: Callable[..., None], monkeypatch: pytest.MonkeyPatch, visible: str | None, seen: list[int]
) -> None:
    nvidia_smi(*TWO)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    cards, reason = find_gpus()
    assert [card.index for card in cards] == seen
    assert visible is None or visible in reason


def test_memory_is_read_where_the_card_has_its_own(nvidia_smi: Callable[..., None]) -> None:
    nvidia_smi(*TWO, "2, GPU-cccc3333-0000, [N/A], [N/A]")
    cards, _ = find_gpus()
    assert cards == (Gpu(0, 81920 * MIB, 81000 * MIB), Gpu(1, 24576 * MIB, 1000 * MIB), Gpu(2))


def test_a_slice_of_a_card_is_refused(nvidia_smi: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(*TWO)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1234")
    with pytest.raises(UsageError, match="slice of a GPU"):
        find_gpus()


def test_a_driver_that_fails_leaves_no_cards_and_its_own_words(nvidia_smi: Callable[..., None]) -> None:
    nvidia_smi("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", code=9)
    cards, reason = find_gpus()
    assert cards == ()
    assert "couldn't communicate" in reason


def test_no_nvidia_smi_is_no_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == ((), "there is no nvidia-smi")


def test_this_machine_has_the_cores_of_this_process_and_memory() -> None:
    machine = find_machine()
    assert set(machine.cores) == os.sched_getaffinity(0)
    assert machine.ram is not None and machine.ram > GIB // 4
