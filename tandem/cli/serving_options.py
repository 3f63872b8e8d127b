"""Options that say on what local models run: in this process, or on vLLM replicas on which GPUs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from tandem.config import Serving

ROLES = ("mentor", "intern")


class Numbers(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A list of numbers with commas between them."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return the numbers."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}' is no list of numbers, as in 0,1,2", param, ctx)


def serving_options(default: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that adds the options which `take_serving` reads; `default` is the backend's."""
    options = [
        click.option(
            "--backend",
            type=click.Choice(["auto", "vllm", "transformers"]),
            default=default,
            show_default=True,
            help="For local weights: vLLM replicas of its own, or this process; auto: vLLM where it is installed.",
        )
    ]
    for role in ROLES:
        options += [
            click.option(
                f"--{role}-gpus", type=Numbers(), metavar="LIST", help=f"The {role}'s GPUs under vLLM: 0,1,2."
            ),
            click.option(
                f"--{role}-tensor-parallel",
                type=click.IntRange(1),
                default=1,
                show_default=True,
                help="GPUs a replica.",
            ),
            click.option(
                f"--{role}-replicas", type=click.IntRange(1), metavar="N", help="Default: what the GPUs give; else 1."
            ),
        ]
    options += [
        click.option(
            "--ray",
            is_flag=False,
            flag_value="local",
            metavar="[ADDRESS]",
            help="Replicas as Ray actors, on the cluster at ADDRESS (auto: the one here) or one of this run's own.",
        ),
        click.option(
            "--ray-cores", type=click.IntRange(1), metavar="N", help="Cores a replica on nodes without a GPU."
        ),
    ]
    options.append(
        click.option("--vllm-arg", multiple=True, metavar="ARG", help="An option for vLLM itself; repeatable.")
    )

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def take_serving(options: dict[str, Any]) -> None:
    """Put `mentor_serving` and `intern_serving` into a command's options, in place of those that say it."""
    shared = {"vllm_args": tuple(options.pop("vllm_arg")), "ray": options.pop("ray"), "cores": options.pop("ray_cores")}
    for role in ROLES:
        options[f"{role}_serving"] = _serving(options, role, shared)


def _serving(options: dict[str, Any], role: str, shared: dict[str, Any]) -> Serving:
    from tandem.config import Serving

    return Serving(
        gpus=options.pop(f"{role}_gpus"),
        tensor_parallel=options.pop(f"{role}_tensor_parallel"),
        replicas=options.pop(f"{role}_replicas"),
        **shared,
    )
