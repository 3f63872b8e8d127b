"""The Kubernetes manifests: held against the schemas of Kubernetes, and against one another."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from deployment import MANIFESTS, compose, manifests, one, options_in, pods, workloads

RELEASES = ("1.29.0", "1.33.0", "1.37.0")  # of Kubernetes


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests_keep_to_the_schemas_of_kubernetes(name: str, release: str) -> None:
    for manifest in manifests(name):
        kubernetes_validate.validate(manifest, release, strict=True)


def test_the_schemas_are_really_asked() -> None:
    deployment = one("Deployment", "server")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, RELEASES[-1], strict=True)


def test_pods_are_what_the_restricted_standard_asks() -> None:
    for pod in pods().values():
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            own = container["securityContext"]
            assert own["readOnlyRootFilesystem"] and not own["allowPrivilegeEscalation"]
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"].keys() == {"requests", "limits"}


def test_selectors_ports_volumes_and_secrets_meet() -> None:
    secrets = {m["metadata"]["name"]: m["stringData"] for m in manifests(*MANIFESTS) if m["kind"] == "Secret"}
    claims = {m["metadata"]["name"] for m in manifests(*MANIFESTS) if m["kind"] == "PersistentVolumeClaim"}
    labels = []
    for manifest in workloads():
        spec = manifest["spec"]
        own, pod = spec["template"]["metadata"]["labels"], spec["template"]["spec"]
        labels.append((own, {p["name"] for c in pod["containers"] for p in c["ports"]}))
        assert spec["selector"]["matchLabels"].items() <= own.items()
        volumes = {v["name"]: v for v in [*pod["volumes"], *(_metadata(spec.get("volumeClaimTemplates", [])))]}
        for volume in volumes.values():
            assert volume.get("secret", {}).get("secretName", "tandem-keys") in secrets
            assert volume.get("persistentVolumeClaim", {}).get("claimName", "server") in claims
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
            for variable in container.get("env", []):
                asked = variable["valueFrom"]["secretKeyRef"]
                assert asked["key"] in secrets[asked["name"]]
    for service in (m for m in manifests("kubernetes.yaml") if m["kind"] == "Service"):
        assert any(
            service["spec"]["selector"].items() <= own.items() and service["spec"]["ports"][0]["targetPort"] in ports
            for own, ports in labels
        )
    assert {m["metadata"].get("namespace", "tandem") for m in manifests(*MANIFESTS)} == {"tandem"}


def _metadata(templates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [template["metadata"] for template in templates]


def test_the_server_s_endpoints_are_the_interns_by_name() -> None:
    interns, server = one("StatefulSet", "intern"), one("Deployment", "server")
    (container,) = server["spec"]["template"]["spec"]["containers"]
    (serving,) = interns["spec"]["template"]["spec"]["containers"]
    given, own = options_in(container["args"]), options_in(serving["args"])
    service, space = interns["spec"]["serviceName"], interns["metadata"]["namespace"]
    assert given["intern-endpoint"].split(",") == [
        f"http://intern-{number}.{service}.{space}.svc.cluster.local:{own['port']}/v1"
        for number in range(interns["spec"]["replicas"])
    ]
    assert given["intern"] == own["served-model-name"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert given["keys"] in mounts and str(Path(given["keys"]).parent) in mounts  # what is spent is kept beside it


def test_the_server_is_asked_whether_it_is_ready_and_given_the_time_to_drain() -> None:
    pod = one("Deployment", "server")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
    waits, before = container["lifecycle"]["preStop"]["exec"]["command"]
    assert waits == "sleep"
    drain = float(options_in(container["args"])["drain"])
    assert pod["terminationGracePeriodSeconds"] > float(before) + drain
    for name in ("server", "server-cpu"):
        service = compose()["services"][name]
        grace = re.fullmatch(r"(\d+)s", service["stop_grace_period"])
        assert grace and float(grace[1]) > float(options_in(service["command"])["drain"])


def test_the_example_of_keys_is_one_that_the_server_refuses(tmp_path: Path) -> None:
    from tandem.errors import UsageError
    from tandem.server.keys import KeyRing

    (tmp_path / "keys.yaml").write_text(one("Secret", "tandem-keys")["stringData"]["keys.yaml"])
    with pytest.raises(UsageError, match="has no keys"):
        KeyRing(tmp_path / "keys.yaml")
