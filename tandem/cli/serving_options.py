"""Options that say on what local models run: in this process, or on vLLM replicas on which GPUs."""

from __future__ import annotations

from typing import Any

import click

from tandem.cli.options import Decorator, with_options

ROLES = ("mentor", "intern")


class Numbers(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}' is not a list of numbers such as 0,1,2", param, ctx)


def serving_options(default: str) -> Decorator:
    """Return a decorator that adds the options which `take_serving` reads; `default` is the backend's."""
    of_roles = [
        option
        for role in ROLES
        for option in (
            click.option(
                f"--{role}-gpus", type=Numbers(), metavar="LIST", help=f"The {role}'s GPUs under vLLM: 0,1,2."
            ),
            click.option(f"--{role}-tensor-parallel", type=click.IntRange(1), default=1, help="GPUs per replica."),
            click.option(
                f"--{role}-replicas", type=click.IntRange(1), metavar="N", help="Default: what the GPUs give; else 1."
            ),
        )
    ]
    return with_options(
        click.option(
            "--backend",
            type=click.Choice(["auto", "vllm", "transformers"]),
            default=default,
            help="For local weights: vLLM replicas of its own, or this process; auto: vLLM where it is installed.",
        ),
        *of_roles,
        click.option(
            "--ray",
            is_flag=False,
            flag_value="local",
            metavar="[ADDRESS]",
            help="Replicas as Ray actors, on the cluster at ADDRESS (auto: the one here) or one of this run's own.",
        ),
        click.option(
            "--ray-cores", type=click.IntRange(1), metavar="N", help="Cores per replica on nodes without a GPU."
        ),
        click.option("--vllm-arg", multiple=True, metavar="ARG", help="An option for vLLM itself; repeatable."),
    )


def take_serving(options: dict[str, Any]) -> None:
    """Replace a command's options of `serving_options` by `mentor_serving` and `intern_serving`."""
    from tandem.config import Serving

    shared = {"vllm_args": tuple(options.pop("vllm_arg")), "ray": options.pop("ray"), "cores": options.pop("ray_cores")}
    for role in ROLES:
        own = {name: options.pop(f"{role}_{name}") for name in ("gpus", "tensor_parallel", "replicas")}
        options[f"{role}_serving"] = Serving(**own, **shared)
