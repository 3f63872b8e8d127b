"""`tandem profile`: how much device time a model takes for a token, measured, kept, and used by whatever runs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.grouped import command
from tandem.cli.options import PATH, POSITIVE, concurrency_option
from tandem.cli.output import console, emit, note, plain_table, warn
from tandem.cli.values import Numbers
from tandem.errors import UsageError
from tandem.words import counted

if TYPE_CHECKING:
    from tandem.models.base import Model
    from tandem.models.profiles import KeptProfile
    from tandem.models.profiling import Report


@command()
@click.argument("model")
@click.option("--endpoint", metavar="URL", help="OpenAI-compatible base URL that serves it; several with commas.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "vllm", "transformers"]),
    default="auto",
    help="For local weights: vLLM replicas of its own (or the standing pool), or this process.",
)
@click.option("--gpus", type=Numbers(), metavar="LIST", help="GPUs under vLLM: 0,1,2.")
@click.option("--tensor-parallel", type=click.IntRange(1), default=1, metavar="N", help="GPUs per replica.")
@click.option("--replicas", type=click.IntRange(1), metavar="N", help="Default: what the GPUs give; else 1.")
@click.option("--vllm-arg", multiple=True, metavar="ARG", help="An option for vLLM itself; may be repeated.")
@concurrency_option(default=8, help="Requests at once, as in the runs to come.")
@click.option("--prompt-tokens", type=click.IntRange(16), metavar="N", help="Default: 512, or fewer on a slow device.")
@click.option("--answer-tokens", type=click.IntRange(8), metavar="N", help="Default: 128, or fewer on a slow device.")
@click.option("--seconds", type=POSITIVE, default=60.0, metavar="S", help="About how long to measure.")
@click.option(
    "--devices", type=POSITIVE, metavar="N", help="Devices behind an endpoint. Default: what a pool has; else 1."
)
@click.option(
    "--cpu-time",
    is_flag=True,
    help="Count the CPU time of the model's own processes, not the wall time: for cores that others use too, best one.",
)
@click.option("--out", type=PATH, metavar="FILE", help="Write it there, and keep it nowhere else.")
@click.option("--json", "as_json", is_flag=True, help="Print the profile as JSON on standard output, nothing else.")
def profile(
    model: str,
    concurrency: int,
    prompt_tokens: int | None,
    answer_tokens: int | None,
    seconds: float,
    devices: float | None,
    cpu_time: bool,
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the device time of MODEL (a name, a folder, a hub id, or a standing pool's name) for a token.

    \b
    Examples:
      tandem profile qwen2.5-coder-1.5b                          # on vLLM where it is installed; else in process
      tandem profile qwen2.5-coder-0.5b --backend transformers --concurrency 1
      tandem profile deepseek-7b --gpus 0,1 --concurrency 64
      tandem profile deepseek-7b --endpoint http://gpu1:8000/v1 --devices 2
      tandem pool up deepseek-7b; tandem profile deepseek-7b
      tandem pool up qwen2.5-coder-0.5b --cores 0; tandem profile qwen2.5-coder-0.5b --cpu-time
      tandem run --mentor gpt-4o --intern deepseek-7b --usd-per-device-hour 2.5 --dataset math500

    Three figures: device-seconds for an uncached prompt token, a cached one and a written one, at this load. A GPU is a
    device; so are the cores of one machine together. Profiles are kept by model, endpoint and load; run, solve, serve,
    compare and collect take that of where a model runs, at the nearest load, and count device time (--unit seconds) or,
    with --usd-per-device-hour, US$ by it. Nothing else should run on the device meanwhile, but for --cpu-time.
    """
    import asyncio

    from tandem.cli.session import command_line
    from tandem.models.devices import hardware_of
    from tandem.models.profiles import keep_profile
    from tandem.models.profiling import Load, measure
    from tandem.storage.formats import stamped

    loaded = _load(model, **options)
    _refuse_vendors(loaded, devices)
    load = Load(concurrency, prompt_tokens, answer_tokens)

    async def work(report: Report) -> tuple[KeptProfile, list[str]]:
        try:
            return await measure(
                loaded,
                load,
                lambda: hardware_of(loaded, devices, cpu_time=cpu_time),
                seconds=seconds,
                report=report,
                command=command_line(),
            )
        finally:
            await loaded.aclose()

    with _bar(seconds) as report:
        kept, notes = asyncio.run(work(report))
    path = keep_profile(kept, out)
    warn(notes)
    shown = {"id": kept.id, "file": str(path), "notes": notes, **stamped(kept.model_dump(mode="json"))}
    emit(shown, as_json, lambda: profile_lines(kept))
    if not as_json:
        note(f"kept as {kept.id}" if out is None else f"written to {path}")


def profile_lines(kept: KeptProfile) -> Iterator[Any]:
    """Yield a profile as a person reads it: where and at which load, and the three rates with their spread."""
    its = kept.profile
    yield f"{its.model} at {its.endpoint}: {its.device} ({its.devices:g} device{'s' if its.devices != 1 else ''})"
    yield f"{its.load}, {its.date}, {counted(len(kept.cycles), 'cycle')}{', ' + kept.engine if kept.engine else ''}"
    rows = [
        (name, f"{1000 * rate:.3g}", f"{1 / rate:.4g}" if rate else "", "" if wide is None else f"±{wide:.0%}")
        for name, rate, wide in (
            ("uncached prompt token", its.uncached, kept.spread("uncached")),
            ("cached prompt token", its.cached, kept.spread("cached")),
            ("written token", its.written, kept.spread("written")),
        )
    ]
    yield plain_table(("", "device-ms", "per device-second", "spread"), rows)
    yield f"a written token takes as long as {its.written / its.uncached:.3g} read ones"


def _load(name: str, *, endpoint: str | None, backend: Any, vllm_arg: tuple[str, ...], **serving: Any) -> Model:
    from tandem.config import Serving
    from tandem.models.load import load_model
    from tandem.models.vllm import state

    if endpoint is None and backend != "transformers":
        pools = [pool for pool in state.load_all()[0] if pool.kind == "standing" and pool.name == name != pool.model]
        if pools:
            name, endpoint = pools[0].model, ",".join(replica.url for replica in pools[0].replicas)
    how = Serving(vllm_args=vllm_arg, **serving)
    return load_model(name, role="intern", endpoint=endpoint, backend=backend, serving=how)


def _refuse_vendors(model: Model, devices: float | None) -> None:
    spec = model.spec
    if spec.synthetic:
        raise UsageError("the fake model takes no device time")
    if spec.prices is not None and not spec.local and devices is None:
        raise UsageError(
            f"{spec.name} is paid for by the token, so its device time is not yours to know; its prices: "
            f"tandem models show {spec.name} (or give --devices N where it is your own server)"
        )


@contextmanager
def _bar(seconds: float) -> Iterator[Report]:
    """Show what goes on: a bar over the time in a terminal, a line for each new stage elsewhere."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    err = console(stderr=True)
    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=1.0)

        def report(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share)
            if not err.is_terminal:
                note(f"{what} ({share * seconds:.0f} s of about {seconds:g})" if share else what)

        yield report
