"""`tandem collect`: training rows for a pair, in parallel where asked, resumable at every row."""

from __future__ import annotations

import json
from itertools import chain, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.config_option import config_option
from tandem.cli.data_options import DATA_KEYS, dataset_options
from tandem.cli.grouped import command
from tandem.cli.options import (
    PATH,
    cap_options,
    code_options,
    concurrency_option,
    insight_mode_option,
    limit_options,
    open_code_sandbox,
    pair_options,
    sampling_options,
)
from tandem.cli.output import warn
from tandem.cli.serving_options import serving_options, take_serving
from tandem.cli.values import Numbers
from tandem.errors import TandemError, UsageError
from tandem.words import counted

if TYPE_CHECKING:
    from tandem.collection.job import CollectionJob
    from tandem.engine import Tandem
    from tandem.types import Problem

_HINTS = "20,40,60"


@command()
@pair_options
@insight_mode_option
@click.option(
    "--mentor-type",
    type=click.Choice(["auto", "local", "api"]),
    default="auto",
    help="local: weights on your own hardware; api: an endpoint. Checked against what --mentor is.",
)
@serving_options
@dataset_options(several=True)
@click.option(
    "--holdout",
    metavar="SHARE|N",
    help="Leave out a share of the problems (or N), by the hash of their ids, and record which: `tandem run` and "
    "`tandem compare` take them with --holdout-of.",
)
@code_options
@click.option("--effort", default="none,low,medium,high,answer", metavar="LADDER", help="Levels to collect.")
@click.option(
    "--hints",
    type=Numbers(),
    is_flag=False,
    flag_value=_HINTS,
    metavar="[LIST]",
    help=f"Also let the intern go on from so many % of the mentor's answer (alone: {_HINTS}).",
)
@click.option(
    "--budgets",
    type=Numbers(),
    metavar="LIST",
    help="Also end the mentor's answer after so many tokens, such as 150,400 (the baseline budget-forcing).",
)
@click.option(
    "--reuse",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Take over from another collection of the pair what no insight has a part in: none, answer, hints, budgets.",
)
@click.option("--samples", type=click.IntRange(1), default=1, metavar="N", help="Intern's answers a level.")
@sampling_options
@click.option("--seed", type=int, metavar="N", help="Seed for sampling; problems are drawn by it too (0 if not given).")
@cap_options(". Default: what its makers advise (thinking models), else 768, of an API 4096.")
@click.option("--max-tokens", type=click.IntRange(1), hidden=True)  # both caps, as they were once given
@concurrency_option(default=32, help="Problems at once, in all.")
@click.option("--parallel", is_flag=True, help="Several worker processes, which share the replicas or endpoints.")
@click.option("--num-workers", type=click.IntRange(1), default=4, metavar="N", help="With --parallel.")
@limit_options
@click.option("--dry-run", "--estimate", is_flag=True, help="Estimate what is missing and its cost; call no model.")
@click.option("--out", type=PATH, required=True, metavar="DIR", help="A new folder, or one to continue.")
@click.option("--table", type=PATH, metavar="FILE", help="The table. Default: OUT/table.jsonl.gz.")
@config_option
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON on standard output, nothing else.")
def collect(dry_run: bool, as_json: bool, **options: Any) -> None:
    """Collect the intern's signals and correctness at every level; the same command continues where it stopped.

    \b
    Examples:
      tandem collect --mentor qwen2.5-coder-1.5b --intern qwen2.5-coder-0.5b --dataset gsm8k --dataset math \\
                     --limit 100 --effort none,low=40,medium=100,high=300,answer --out collected
      tandem collect --mentor deepseek-32b --mentor-type local --mentor-gpus 0,1,2,3 --intern deepseek-7b \\
                     --intern-gpus 4,5,6,7 --dataset math --parallel --num-workers 4 --out collected
      tandem collect --mentor gpt-4o --mentor-type api --intern deepseek-7b --intern-endpoint http://g1:8000/v1 \\
                     --dataset math --limit 500 --max-usd 20 --hints --out collected
      tandem train collected
      tandem collect ... --dataset mine.csv --holdout 0.3 --out collected
      tandem compare ... --dataset mine.csv --holdout-of collected

    The folder's rows and texts are private; table.jsonl.gz (and table.parquet, with pyarrow) hold ids, signals, labels
    and counts only.
    """
    from tandem.collection.job import CollectionJob
    from tandem.collection.manifest import continued
    from tandem.collection.plan import CollectionPlan, estimate_text
    from tandem.engine import Tandem
    from tandem.ladder import parse_ladder
    from tandem.runs.budget import check_prices
    from tandem.runs.work import Limits

    table, max_minutes = options.pop("table"), options.pop("max_minutes")
    rows = {
        "ladder": parse_ladder(options.pop("effort")),
        "hints": options.pop("hints") or (),
        "budgets": options.pop("budgets") or (),
        "samples": options.pop("samples"),
    }
    one_cap = options.pop("max_tokens")
    caps = {name: options.pop(name) or one_cap for name in ("mentor_max_tokens", "intern_max_tokens")}
    drawn = any(options[name] is not None for name in ("temperature", "top_p"))
    problems, datasets, held = _load(options)
    sandbox = open_code_sandbox(options, problems, graded=not dry_run)
    parallel, workers = options.pop("parallel"), options.pop("num_workers")
    how = {
        "out": options.pop("out"),
        "concurrency": options.pop("concurrency"),
        "workers": workers if parallel else None,
        "limits": Limits.of(options.pop("max_usd"), max_minutes),
        "timeout": options["request_timeout"],
        "endpoints": {"mentor": options["mentor_endpoint"], "intern": options["intern_endpoint"]},
        "reuse": options.pop("reuse"),
        "held": held,
    }
    kind = options.pop("mentor_type")
    take_serving(options)
    engine = Tandem(strategy="fixed:low", concurrency=how["concurrency"], **options)  # any strategy that calls both
    _check(engine, kind, how["workers"])
    plan = CollectionPlan.of(engine.settings, engine.mentor.spec, engine.intern.spec, **caps, **rows)
    plan = continued(plan, how["out"], sampling=not drawn, caps=not any(caps.values()))
    job = CollectionJob(engine, plan, problems, datasets, sandbox=sandbox, **how)
    if dry_run:
        found = job.estimate()
        click.echo(json.dumps(found) if as_json else estimate_text(found))
        return
    check_prices(engine.plan(), how["limits"].usd)
    _carry_out(job, table or job.out / "table.jsonl.gz", as_json)


def _carry_out(job: CollectionJob, table: Path, as_json: bool) -> None:
    from dataclasses import asdict
    from time import monotonic

    from tandem.cli.live import CollectionView
    from tandem.cli.session import Session, make_folder, ready, same_command

    new = make_folder(job.out)
    began = monotonic()

    async def work() -> None:
        nonlocal began
        if not todo and not job.is_new():
            return
        async with job.engine as engine:
            await ready(engine, view)
            if taken := job.begin(todo):
                view.say(f"{counted(taken, 'row')} taken over from {job.reuse}")
            began = monotonic()
            await job.run(todo, lock, view)

    def finish() -> None:
        summary = job.write_tables(table)
        summary |= {"seconds": round(monotonic() - began, 1), **asdict(job.progress)}
        if as_json:
            click.echo(json.dumps(summary))
        else:
            click.echo(f"{counted(summary['rows_in_table'], 'row')} in {' and '.join(summary['tables'])}", err=True)

    def on_stop() -> None:
        job.progress.stopped = "interrupted"
        finish()

    session = Session(job.out, same_command(), on_stop=on_stop, new=new)
    with job.locked() as lock:
        todo = job.missing()
        view = CollectionView(len(todo))
        session.run(view, work)
        finish()
    warn(job.cut_warnings())
    session.say_limit(job.progress.stopped)
    if failed := job.progress.failed:
        raise TandemError(
            f"{counted(failed, 'problem')} failed, see errors*.jsonl in {job.out}; to try them again: {session.again}"
        )


def _load(options: dict[str, Any]) -> tuple[list[Problem], list[dict[str, Any]], list[Problem]]:
    """Take the data options out of a command's; return the problems of all data sets in turn, how they were loaded,
    and which problems are held out.
    """
    from tandem.cli.data_options import describe_data, load_problems
    from tandem.collection.holdout import parse_holdout, split
    from tandem.collection.manifest import describe_dataset
    from tandem.datasets.cards import training_split

    own = {key: options.pop(key) for key in DATA_KEYS}
    seed, holdout = options["seed"] or 0, options.pop("holdout")
    loaded: list[list[Problem]] = []
    described: list[dict[str, Any]] = []
    held: list[Problem] = []
    for name in dict.fromkeys(own["dataset"]):
        one = {**own, "dataset": name, "seed": seed, "split": own["split"] or training_split(name)}
        data = describe_data(one)
        loaded.append(load_problems(one))
        if holdout is not None:
            loaded[-1], apart = split(loaded[-1], parse_holdout(holdout))
            data, held = data | {"holdout": holdout}, held + apart
        described.append(describe_dataset(data, loaded[-1]))
    turns = chain.from_iterable(zip_longest(*loaded))  # so that a collection that is stopped has of each
    return list({p.id: p for p in turns if p is not None}.values()), described, held


def _check(engine: Tandem, kind: str, workers: int | None) -> None:
    """Raise UsageError where the mentor is not of the given kind, or models cannot be shared."""
    spec = engine.mentor.spec
    if kind == "api" and spec.backend != "openai":
        raise UsageError(f"--mentor-type api: {spec.name} has no endpoint; give --mentor-endpoint URL")
    if kind == "local" and not spec.local:
        raise UsageError(f"--mentor-type local: {spec.name} is behind an API; take --mentor-type api")
    if workers:
        for role in engine.plan().roles:
            if engine.model(role).spec.backend == "transformers":
                raise UsageError(
                    f"--parallel: the {role} would be loaded by every worker; take --backend vllm, or give "
                    f"--{role}-endpoint"
                )
