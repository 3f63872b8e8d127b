"""`tandem serve`: a pair behind an OpenAI-compatible endpoint, with a page to look at it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tandem.cli.config_option import config_option
from tandem.cli.grouped import command
from tandem.cli.options import POSITIVE, concurrency_option, engine_options, make_engine
from tandem.cli.serving_options import serving_options
from tandem.cli.values import FiniteNumber
from tandem.errors import MissingPackageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tandem.engine import Tandem
    from tandem.server.keys import KeyRing


def _without_aim(command: Callable[..., Any]) -> Callable[..., Any]:
    """Leave out the engine's own --aim, in whose place stands the server's."""
    parameters = command.__click_params__  # type: ignore[attr-defined]
    parameters[:] = [parameter for parameter in parameters if parameter.name != "aim"]
    return command


@command()
@_without_aim
@engine_options
@serving_options
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 is all of them.")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, metavar="N", help="0: any free port.")
@click.option(
    "--keys",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="API keys with their limits, made by `tandem keys add`. Without it no key is needed.",
)
@click.option("--allow-anyone", is_flag=True, help="Listen beyond this machine without keys.")
@click.option(
    "--aim",
    "aims",
    multiple=True,
    metavar="AIM[=CLASSIFIER]",
    help="Which of the classifier's operating points decides, as `tandem run` takes it; and with a classifier one that "
    "requests may ask for by its aim, as cost:0.6=classifiers/cheap; may be repeated.",
)
@concurrency_option(default=64, help="Requests solved at once.")
@click.option("--queue", type=click.IntRange(0), default=256, metavar="N", help="Requests that may wait; then 429.")
@click.option("--deadline", type=POSITIVE, default=600.0, metavar="S", help="Seconds.")
@click.option("--drain", type=FiniteNumber(0), default=60.0, metavar="S", help="Seconds to finish after SIGTERM.")
@click.option("--max-body", type=click.IntRange(1024), default=4 << 20, metavar="BYTES", help="Then 413.")
@click.option("--access-log/--no-access-log", default=True, help="A line for each request on standard error.")
@config_option
def serve(
    host: str,
    port: int,
    keys: Path | None,
    allow_anyone: bool,
    aims: tuple[str, ...],
    concurrency: int,
    queue: int,
    deadline: float,
    drain: float,
    max_body: int,
    access_log: bool,
    **options: Any,
) -> None:
    """Serve a pair as an OpenAI-compatible endpoint (chat completions, completions, models), with a page.

    \b
    Examples:
      tandem serve --mentor fake --intern fake                       # a first look: http://127.0.0.1:8080
      tandem serve --mentor gpt-4o --intern deepseek-7b --intern-endpoint http://gpu1:8000/v1
      tandem keys add keys.yaml --name alice --requests-per-minute 60 --usd 5
      tandem serve --mentor gpt-4o --intern deepseek-7b --host 0.0.0.0 --keys keys.yaml
      tandem serve --config pair.yaml --port 9000                    # flags win over the file
      OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=... your-program

    Every strategy is a model: tandem, tandem:low, intern, mentor, fixed:high, and so on. A request may change more for
    itself with `extra_body={"tandem": {"effort": "none,low", "pace": "eager", "budget_usd": 0.01, "aim": "cost:0.6"}}`.
    """
    try:
        from tandem.server.app import create_app
    except ImportError:
        raise MissingPackageError("the server", "serve") from None
    from tandem.config import SolveOptions
    from tandem.server.addresses import own_machine
    from tandem.server.gate import Gate
    from tandem.server.keys import KeyRing
    from tandem.server.requests import ModelMenu
    from tandem.server.running import listen, run, show_requests
    from tandem.server.service import Service
    from tandem.server.tracing import set_up

    if keys is None and not own_machine(host) and not allow_anyone:
        raise UsageError(f"at {host} anyone on the network can spend your money: give --keys FILE, or --allow-anyone")
    accounts = KeyRing(keys)
    own_aim, classifiers = _aims(aims)
    engine = make_engine(options | {"aim": own_aim})
    engine.want("mentor", "intern")  # whatever the server's own strategy calls, a request may name another
    _check_budgets(accounts, engine)
    menu = ModelMenu(engine, classifiers)
    for classifier in menu.aims.values():
        engine.plan(SolveOptions(classifier=classifier))  # a wrong one fails now
    service = Service(menu, accounts, Gate(concurrency, queue), deadline=deadline)
    set_up()
    listening = listen(host, port)
    name = "localhost" if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
    where = f"http://{name}:{listening.getsockname()[1]}"

    def started() -> None:
        click.echo(
            f"{engine.mentor.spec.name} and {engine.intern.spec.name} at {where}/v1, the page at {where}", err=True
        )

    app = create_app(service, max_body=max_body, private=keys is None and own_machine(host))
    with show_requests(access_log):
        run(app, service.gate, listening, drain_seconds=drain, started=started)


def _check_budgets(accounts: KeyRing, engine: Tandem) -> None:
    """Raise UsageError where a key has a budget and a model has no price."""
    from tandem.costs import rates

    limited = [account.entry.name for account in accounts.accounts if account.entry.usd is not None]
    specs = [engine.mentor.spec, engine.intern.spec]
    unpriced = ", ".join(spec.name for spec in specs if not spec.local and rates(spec, "usd", "mentor") is None)
    if limited and unpriced:
        raise UsageError(f"{limited[0]}'s budget cannot be kept: no price is known for {unpriced}; give --prices FILE")


def _aims(given: tuple[str, ...]) -> tuple[str | None, dict[str, str]]:
    """Return the server's own aim, and the classifiers that requests may ask for, by aim."""
    from tandem.training.aims import parse_aim

    own, found = [], {}
    for text in given:
        aim, equals, classifier = text.partition("=")
        if not equals:
            own.append(aim)
            continue
        if not classifier:
            raise UsageError(f"--aim takes AIM or AIM=CLASSIFIER, as cost:0.6=classifiers/cheap, not '{text}'")
        parse_aim(aim)
        found[aim] = classifier
    if len(own) > 1:
        raise UsageError(f"--aim names {len(own)} aims without a classifier ({', '.join(own)}); the server has one")
    return (own[0] if own else None), found
