"""`tandem pool`: vLLM replicas that stay up between runs, and how busy those are that run now."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.grouped import CommandGroup
from tandem.cli.output import console, warn
from tandem.cli.values import Numbers
from tandem.errors import TandemError, UsageError, nearest

if TYPE_CHECKING:
    import subprocess

    from tandem.models.vllm.command import Serve
    from tandem.models.vllm.daemon import StandingPool
    from tandem.models.vllm.state import PoolState

_LOG = "daemon.log"  # in the pool's folder
_SECOND = 1.0  # between the two snapshots that give a rate


@click.group(cls=CommandGroup)
def pool() -> None:
    """Keep vLLM replicas of a model up between runs; see how busy they are.

    \b
    Examples:
      tandem pool up qwen2.5-coder-0.5b --gpus 0,1,2,3 --tensor-parallel 2
      tandem pool up Qwen/Qwen2.5-7B-Instruct -- --max-num-seqs 512
      tandem pool status --watch
      tandem pool down qwen2.5-coder-0.5b
    """


@pool.command("up")
@click.argument("model")
@click.option("--gpus", type=Numbers(), metavar="LIST", help="GPUs by number, as in 0,1,2,3. Default: all.")
@click.option("--cores", type=Numbers(), metavar="LIST", help="Cores by number, without a GPU. Default: all.")
@click.option("--tensor-parallel", type=click.IntRange(1), default=1, metavar="N", help="GPUs for each replica.")
@click.option("--replicas", type=click.IntRange(1), metavar="N", help="Default: as many as the GPUs give; else one.")
@click.option("--port", type=click.IntRange(1, 65535), metavar="N", help="The first one's port. Default: free ones.")
@click.option("--name", metavar="NAME", help="What the pool is called here. Default: the model's name.")
@click.option("--context", type=click.IntRange(1), metavar="N", help="Context length in tokens. Default: the model's.")
@click.option("--dtype", default="auto", metavar="T", help="As vLLM takes it: bfloat16, float16, …")
@click.option("--quantization", metavar="Q", help="As vLLM takes it: fp8, awq, …")
@click.option("--kv-cache-gib", type=float, metavar="G", help="Memory for the KV cache of each replica, without a GPU.")
@click.option("--eager", is_flag=True, help="Do not compile: starts faster, serves slower.")
@click.argument("extra", nargs=-1, type=click.UNPROCESSED, metavar="[-- VLLM OPTIONS]")
def up(model: str, **options: Any) -> None:
    """Start replicas of MODEL (a catalog name, a folder, a GGUF file, a hub id), which stay until `tandem pool down`.

    The base URLs go to standard output. A replica that crashes, or does not answer its health check for 2 minutes, is
    restarted; one that needs that more than 5 times in 30 minutes is given up; `tandem pool status` then shows
    that, with the path of its log.
    """
    from tandem.models.vllm import state

    job = _job(model, options)
    if running := state.load(job.name):
        where = ",".join(replica.url for replica in running.replicas)
        raise UsageError(f"the pool '{job.name}' is up already: {where}; end it: tandem pool down {job.name}")
    job.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    daemon = _start(job)
    try:
        ready = _wait(daemon, job)
    except BaseException:  # Ctrl-C too: a pool that never came up belongs to no one
        daemon.terminate()
        daemon.wait()
        raise
    urls = [replica.url for replica in ready.replicas]
    click.echo("\n".join(urls))
    click.echo(f"The pool {job.name} is up. To use it:", err=True)
    click.echo(f"  tandem run --intern {job.serve.name} --intern-endpoint {','.join(urls)} …", err=True)
    click.echo(f"To see it: tandem pool status; to end it: tandem pool down {job.name}", err=True)


@pool.command("status")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output, a line for each snapshot.")
@click.option("--watch", is_flag=True, help="Refresh until Ctrl-C.")
@click.option("--every", type=click.FloatRange(0.1), default=2.0, metavar="S", help="With --watch.")
def status(as_json: bool, watch: bool, every: float) -> None:
    """Show every pool of yours on this machine, those of runs too: load, prefix cache hits, tokens per second."""
    from rich.live import Live

    from tandem.cli.pool_status import report, speed_lines, table, take_snapshot

    before = take_snapshot()
    time.sleep(_SECOND)
    now = take_snapshot()
    if as_json:
        click.echo(json.dumps(report(before, now)))
        while watch:
            time.sleep(every)
            before, now = now, take_snapshot()
            click.echo(json.dumps(report(before, now)))
    elif watch:
        with Live(table(report(before, now)), console=console(), auto_refresh=False) as live:
            while True:
                time.sleep(every)
                before, now = now, take_snapshot()
                live.update(table(report(before, now)), refresh=True)
    elif now:
        found = report(before, now)
        console().print(table(found))
        click.echo("\n".join(speed_lines(found)))
    else:
        click.echo("No pool is up. To start one: tandem pool up MODEL")


@pool.command("down")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Every standing pool.")
def down(names: tuple[str, ...], everything: bool) -> None:
    """End standing pools; without a name, the only one there is."""
    from tandem.models.vllm import state

    found, errors = state.load_all()
    warn(errors)
    standing = {running.name: running for running in found if running.kind == "standing"}
    if not names and not everything and len(standing) > 1:
        raise UsageError(f"which one? {', '.join(standing)} (or --all)")
    if not names and not everything and not standing:
        raise UsageError("there is no standing pool")
    ours = {running.name: running for running in found}
    for name in names:
        if name not in ours:
            raise nearest("pool", name, ours) if ours else UsageError("there is no pool")
    for running in [ours[name] for name in dict.fromkeys(names)] if names else standing.values():
        state.end(running)
        click.echo(f"{running.name} is down", err=True)


def _job(model: str, options: dict[str, Any]) -> StandingPool:
    from dataclasses import replace

    from tandem.models.vllm.command import command, need_vllm
    from tandem.models.vllm.daemon import StandingPool
    from tandem.models.vllm.machine import GIB, find_machine
    from tandem.models.vllm.placement import ResourceRequest, place
    from tandem.models.vllm.pool import pool_name
    from tandem.models.vllm.size import size_of, suited
    from tandem.models.vllm.state import check_name, pools_dir

    machine = find_machine()
    need_vllm(machine, model)
    if cores := options["cores"]:
        if machine.gpus:
            raise UsageError("this machine has GPUs: choose with --gpus")
        if lacking := sorted(set(cores) - set(machine.cores)):
            raise UsageError(
                f"this process may not use core {lacking[0]}; it may use {', '.join(map(str, machine.cores))}"
            )
        machine = replace(machine, cores=tuple(dict.fromkeys(cores)))
    (serve,) = suited([(_serve(model, options), None, options["replicas"] or 1)], machine)
    size = size_of(serve, cpu=not machine.gpus)
    if not machine.gpus:
        serve = replace(serve, kv_cache_gib=size.cache / GIB)
    request = ResourceRequest("pool", options["gpus"], options["tensor_parallel"], options["replicas"], size)
    places = place(request, machine)
    first = options["port"]
    ports = [first + i for i in range(len(places))] if first else []
    command(serve, places[0], first or 1)  # raises for wrong options for vLLM
    name = check_name(options["name"]) if options["name"] else pool_name(serve.name)
    return StandingPool(name=name, serve=serve, places=places, folder=pools_dir() / name, ports=ports)


def _serve(model: str, options: dict[str, Any]) -> Serve:
    from pathlib import Path

    from tandem.models.catalog import find, lookup
    from tandem.models.vllm.command import Serve
    from tandem.models.weights import pull, pulled

    path, entry = Path(model).expanduser(), lookup(model)
    if path.exists() and ("/" in model or entry is None):
        where, name = str(path.absolute()), path.absolute().stem if path.is_file() else path.absolute().name
    elif entry or model.count("/") != 1 or model.startswith((".", "/", "~")):
        if entry is None and "/" in model:
            raise UsageError(f"there is no model at '{model}'")
        entry = find(model)
        if not entry.local:
            raise UsageError(f"{entry.name} has no weights to serve; it is an API: {entry.endpoint}")
        if not pulled(entry):
            click.echo(f"pulling {entry.name}", err=True)
        where, name = str(pull(entry)), entry.name
    else:
        where = name = model
    kept = ("context", "dtype", "quantization", "kv_cache_gib", "eager", "tensor_parallel", "extra")
    return Serve(model=where, name=name, **{key: options[key] for key in kept})


def _start(job: StandingPool) -> subprocess.Popen[bytes]:
    import subprocess

    with (job.folder / _LOG).open("wb") as log:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "tandem.models.vllm.daemon"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # neither Ctrl-C nor the terminal's end is for it
        )
    assert daemon.stdin is not None
    daemon.stdin.write(job.model_dump_json().encode())
    daemon.stdin.close()
    return daemon


def _wait(daemon: subprocess.Popen[bytes], job: StandingPool) -> PoolState:
    """Print the state of the replicas until all are up; raises TandemError with the reason if they do not come up."""
    from tandem.models.vllm import state

    shown: dict[str, str] = {}
    while True:
        ended = daemon.poll() is not None
        now = state.load(job.name)
        if ended:
            log = job.folder / _LOG
            lines = log.read_text(errors="replace").strip().splitlines()
            raise TandemError(lines[-1] if lines else f"the pool's daemon ended; its log: {log}")
        for index, replica in enumerate(now.replicas if now else []):
            if shown.get(replica.url) != replica.note:
                shown[replica.url] = replica.note
                click.echo(f"replica {index} ({replica.place}): {replica.note}", err=True)
        if now and now.pid == daemon.pid and all(replica.up for replica in now.replicas):
            return now
        time.sleep(0.2)
