# SPDX-License-Identifier: Apache-2.0
"""
The examples for Kubernetes and Istio, by the published schemas and by the code of Kustomize and Istio, and by what the
sidecar itself knows of what stands in them.
"""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from sidecar.settings import settings_page
from tests.e2e.sidecar_process import PATIENCE, run_cli
from tests.e2e.test_foreign_clients import ROOT, built

KUBERNETES = ROOT / "examples" / "kubernetes"
ISTIO = ROOT / "examples" / "istio"
#: The oldest that runs what the examples use (containers that start before the others and go on), and the newest.
VERSIONS = ("1.29", kubernetes_validate.latest_version())

Json = dict[str, Any]


def documents(path: Path) -> list[Json]:
    """Return the documents of a file of YAML."""
    return list(yaml.safe_load_all(path.read_text()))


def run_manifests(mode: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Run the program that reads manifests, or skip the test."""
    command = [str(built("manifests")), mode, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)


@cache
def kustomized() -> list[Json]:
    """Return what Kustomize makes of the base."""
    done = run_manifests("kustomize", KUBERNETES / "base")
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(kind: str) -> list[Json]:
    """Return the resources of a kind that Kustomize makes."""
    return [one for one in kustomized() if one["kind"] == kind]


PLAIN = [
    pytest.param(document, id=f"{path.relative_to(ROOT / 'examples')}-{document['kind']}")
    for path in (*sorted((KUBERNETES / "base").glob("*.yaml")), ISTIO / "service.yaml")
    for document in documents(path)
    if document["kind"] != "Kustomization"
]


@pytest.mark.parametrize("document", PLAIN)
def test_manifest_when_read_by_the_schemas_of_kubernetes_then_it_is_sound(document: Json) -> None:
    for version in VERSIONS:
        kubernetes_validate.validate(document, version, strict=True)


def test_schema_of_kubernetes_when_a_field_is_misspelt_then_it_says_so() -> None:
    (document,) = documents(KUBERNETES / "base" / "deployment.yaml")
    document["spec"]["template"]["spec"]["initContainers"][0]["readynessProbe"] = {}

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[0], strict=True)


@pytest.mark.peer
def test_base_when_kustomize_builds_it_then_everything_it_makes_is_sound_and_found() -> None:
    for resource in kustomized():
        kubernetes_validate.validate(resource, VERSIONS[-1], strict=True)

    made = {(one["kind"], one["metadata"]["name"]) for one in kustomized()}
    (deployment,) = of_kind("Deployment")
    pod = deployment["spec"]["template"]["spec"]
    for volume in pod["volumes"]:
        sources = [volume, *volume.get("projected", {}).get("sources", [])]
        for source in sources:
            if "configMap" in source:
                assert ("ConfigMap", source["configMap"]["name"]) in made, "a config map under its generated name"
    containers = [*pod["initContainers"], *pod["containers"]]
    assert all(":" in container["image"] for container in containers), "every image has a version"
    for container in containers:
        mounted = {mount["name"] for mount in container.get("volumeMounts", [])}
        assert mounted <= {volume["name"] for volume in pod["volumes"]}
    ports = {port["name"] for container in containers for port in container.get("ports", [])}
    (service,) = of_kind("Service")
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports
    (policy,) = of_kind("NetworkPolicy")
    assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} <= ports
    assert policy["spec"]["podSelector"]["matchLabels"] == service["spec"]["selector"]


def test_pod_when_looked_at_then_every_container_is_locked_down_and_bounded() -> None:
    (deployment,) = documents(KUBERNETES / "base" / "deployment.yaml")
    pod = deployment["spec"]["template"]["spec"]

    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    for container in [*pod["initContainers"], *pod["containers"]]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, container["name"]
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}
        assert set(container["resources"]["limits"]) == {"memory"}


def test_sidecar_container_when_looked_at_then_its_settings_exist_and_its_probes_are_pages_of_it() -> None:
    (deployment,) = documents(KUBERNETES / "base" / "deployment.yaml")
    container = deployment["spec"]["template"]["spec"]["initContainers"][0]

    page = settings_page()
    unknown = [entry["name"] for entry in container["env"] if f"`{entry['name']}`" not in page]
    assert unknown == []
    probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert probes == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    environment = {entry["name"]: entry.get("value") for entry in container["env"]}
    (port,) = container["ports"]
    assert environment["IAM_SIDECAR_HTTP"] == f"0.0.0.0:{port['containerPort']}"


def test_policies_when_mounted_as_the_deployment_says_then_they_are_a_source(tmp_path: Path) -> None:
    (kustomization,) = documents(ROOT / "examples" / "envoy" / "kustomization.yaml")
    (deployment,) = documents(KUBERNETES / "base" / "deployment.yaml")
    generator = next(one for one in kustomization["configMapGenerator"] if one["name"] == "shop-policies")
    files = {}
    for entry in generator["files"]:
        key, _, path = entry.partition("=")
        files[key] = ROOT / "examples" / "envoy" / path
    volumes = {volume["name"]: volume for volume in deployment["spec"]["template"]["spec"]["volumes"]}
    # As the kubelet does it: a folder behind a link that can be put elsewhere in one step, and links into it.
    real = tmp_path / "..2026"
    real.mkdir()
    (tmp_path / "..data").symlink_to(real.name)
    for item in volumes["policies"]["configMap"]["items"]:
        (real / item["path"]).parent.mkdir(parents=True, exist_ok=True)
        (real / item["path"]).write_bytes(files[item["key"]].read_bytes())
        top = item["path"].partition("/")[0]
        (tmp_path / top).symlink_to(Path("..data") / top)

    done = run_cli("check", "--strict", str(tmp_path))

    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 principals" in done.stdout


@pytest.mark.peer
@pytest.mark.parametrize("name", ["authorization-policy.yaml", "service-entry.yaml", "virtual-service.yaml"])
def test_resource_of_istio_when_read_by_its_schema_and_code_then_it_is_sound(name: str) -> None:
    done = run_manifests("istio", ISTIO / name)

    assert done.returncode == 0, done.stderr
    schemas = istio_schemas()
    for document in documents(ISTIO / name):
        jsonschema.validate(document, schemas[document["kind"], document["apiVersion"]])


@cache
def istio_schemas() -> dict[tuple[str, str], Json]:
    """Return the schemas of Istio's resources, as it publishes them for Kubernetes."""
    found = {}
    for definition in yaml.load_all(built("istio.yaml").read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        spec = definition["spec"]
        for version in spec["versions"]:
            key = spec["names"]["kind"], f"{spec['group']}/{version['name']}"
            found[key] = version["schema"]["openAPIV3Schema"]
    return found


@pytest.mark.peer
def test_mesh_configuration_when_read_by_istio_then_it_is_sound_and_closed(tmp_path: Path) -> None:
    done = run_manifests("mesh-config", ISTIO / "mesh-config.yaml")

    assert done.returncode == 0, done.stderr
    (document,) = documents(ISTIO / "mesh-config.yaml")
    providers = document["meshConfig"]["extensionProviders"]
    for provider in providers:
        settings = provider["envoyExtAuthzGrpc"]
        assert settings["failOpen"] is False
        assert settings["timeout"] == "0.5s", "the default is ten minutes"
    # A provider that nobody knows makes Istio deny everything, with words that do not say so.
    named = {policy["spec"]["provider"]["name"] for policy in documents(ISTIO / "authorization-policy.yaml")}
    assert named == {provider["name"] for provider in providers}
    addresses = {provider["envoyExtAuthzGrpc"]["service"] for provider in providers}
    (entry,) = documents(ISTIO / "service-entry.yaml")
    service = next(one for one in documents(ISTIO / "service.yaml") if one["kind"] == "Service")
    place = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    assert addresses == {entry["spec"]["hosts"][0], place}
    assert next(port for port in service["spec"]["ports"] if port["port"] == 9191)["appProtocol"] == "grpc"
    assert entry["spec"]["ports"] == [{"number": 9191, "name": "grpc", "protocol": "GRPC"}]

    document["meshConfig"]["extensionProviders"][0]["envoyExtAuthzGrpc"]["failOpn"] = True
    (tmp_path / "wrong.yaml").write_text(yaml.safe_dump(document))
    assert "failOpn" in run_manifests("mesh-config", tmp_path / "wrong.yaml").stderr
