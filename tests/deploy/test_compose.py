"""compose.yaml: held against the compose specification, and its services against one another."""

from __future__ import annotations

import ast
import re
from typing import Any

import compose_spec
import pytest
from deployment import TOP, compose, options_in


def test_compose_keeps_to_the_specification() -> None:
    loaded = compose_spec.PyOptions(apply_merge=True).from_yaml((TOP / "compose.yaml").read_text())
    loaded.validate()
    assert set(loaded.service_names()) == {"mentor", "intern-0", "intern-1", "server", "server-cpu"}


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("    image: tandem:0.2.0", "    imagee: tandem:0.2.0"),
        ("condition: service_healthy", "condition: service_fine"),
        ("stop_grace_period: 150s", "stop_grace_period: 150 parsecs"),
        ("- source: keys", "- source: nothing"),
    ],
)
def test_the_specification_is_really_asked(right: str, wrong: str) -> None:
    text = (TOP / "compose.yaml").read_text()
    assert right in text
    with pytest.raises(ValueError):
        compose_spec.PyOptions(apply_merge=True).from_yaml(text.replace(right, wrong, 1)).validate()


def test_compose_names_only_what_there_is() -> None:
    found = compose()
    services, profiles = found["services"], {"gpu", "cpu"}
    for service in services.values():
        assert set(service["profiles"]) <= profiles
        assert (TOP / service["build"]["dockerfile"]).is_file()
        assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory"}
        assert service["healthcheck"]["test"][0] == "CMD" and ast.parse(service["healthcheck"]["test"][-1])
        assert set(service["networks"]) <= found["networks"].keys()
        for other in service.get("depends_on", {}):
            assert set(service["profiles"]) <= set(services[other]["profiles"]) and "healthcheck" in services[other]
    cards = [device for s in services.values() for device in _devices(s)]
    assert sorted(cards) == sorted(set(cards)), "a GPU is given twice"


def _devices(service: dict[str, Any]) -> list[str]:
    reserved = service["deploy"]["resources"].get("reservations", {}).get("devices", [])
    return [card for device in reserved for card in device["device_ids"]]


def test_each_endpoint_in_compose_is_a_service_that_serves_that_model() -> None:
    services = compose()["services"]
    given = options_in(services["server"]["command"])
    for role in ("mentor", "intern"):
        for url in given[f"{role}-endpoint"].split(","):
            host, port = re.fullmatch(r"http://([^:/]+):(\d+)/v1", url).groups()  # type: ignore[union-attr]
            options = options_in(services[host]["command"])
            assert (options["port"], options["served-model-name"]) == (port, given[role])
            assert host in services["server"]["depends_on"]
    interns = [name for name in services if name.startswith("intern")]
    assert all(int(options_in(services[name]["command"])["max-logprobs"]) >= 20 for name in interns)
    for name, service in services.items():
        tensor = int(options_in(service["command"]).get("tensor-parallel-size", "1"))
        assert len(_devices(service)) == (tensor if "server" not in name else 0)
