"""Options that say on what local models run: in this process, or on vLLM replicas on which GPUs."""

from __future__ import annotations

from typing import Any

import click

from tandem.cli.grouped import LOCAL, Decorator, with_options
from tandem.cli.values import Numbers

ROLES = ("mentor", "intern")


def _serving_options() -> Decorator:
    of_roles = [
        option
        for role in ROLES
        for option in (
            click.option(
                f"--{role}-gpus", type=Numbers(), metavar="LIST", help=f"The {role}'s GPUs under vLLM: 0,1,2."
            ),
            click.option(
                f"--{role}-tensor-parallel", type=click.IntRange(1), default=1, metavar="N", help="GPUs per replica."
            ),
            click.option(
                f"--{role}-replicas", type=click.IntRange(1), metavar="N", help="Default: what the GPUs give; else 1."
            ),
        )
    ]
    return with_options(
        click.option(
            "--backend",
            type=click.Choice(["auto", "vllm", "transformers"]),
            default="auto",
            help="For local weights: vLLM replicas of its own, or this process; auto: vLLM where it is installed, "
            "unless one problem is solved at a time and no pool is up.",
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
        click.option("--vllm-arg", multiple=True, metavar="ARG", help="An option for vLLM itself; may be repeated."),
        group=LOCAL,
    )


serving_options = _serving_options()  # what `take_serving` reads


def take_serving(options: dict[str, Any]) -> None:
    """Replace a command's options of `serving_options` by `mentor_serving` and `intern_serving`."""
    from tandem.config import Serving

    shared = {"vllm_args": tuple(options.pop("vllm_arg")), "ray": options.pop("ray"), "cores": options.pop("ray_cores")}
    for role in ROLES:
        own = {name: options.pop(f"{role}_{name}") for name in ("gpus", "tensor_parallel", "replicas")}
        options[f"{role}_serving"] = Serving(**own, **shared)
