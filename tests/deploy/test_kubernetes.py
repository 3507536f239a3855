"""What the Kubernetes manifests promise: read, and where kubectl is, built; not run."""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from goqueue.actors import DEFAULT_TYPES
from goqueue.api.autoscale import AutoscaleDocument
from goqueue.api.frame.security import OPEN_PATHS
from goqueue.api.operations import OPERATIONS
from goqueue.cli import _parser
from goqueue.config.example_secrets import holds_example_secret
from goqueue.config.settings import Settings, load_settings
from goqueue.errors import ConfigurationError
from goqueue.instance import default
from goqueue.observability.monitoring_server import MonitoringServer, Probes
from goqueue.ops.processes import MARGIN_SECONDS

ROOT = Path(__file__).parents[2]
BASE = ROOT / "deploy/kubernetes/base"
KEDA = ROOT / "deploy/kubernetes/keda"

#: The oldest and the newest release of Kubernetes that the manifests are held against.
RELEASES = ("1.30.0", "1.37.0")

Document = dict[str, Any]


@functools.cache
def documents(path: Path) -> list[Document]:
    """The documents of a file."""
    return list(yaml.safe_load_all(path.read_text()))


def resources(folder: Path) -> list[Document]:
    """What the kustomization of a folder names, without other folders."""
    names = documents(folder / "kustomization.yaml")[0]["resources"]
    return [found for name in names if name.endswith(".yaml") for found in documents(folder / name)]


def of_kind(*kinds: str) -> dict[str, Document]:
    """The resources of the base of these kinds, by name."""
    return {found["metadata"]["name"]: found for found in resources(BASE) if found["kind"] in kinds}


KUSTOMIZATION = documents(BASE / "kustomization.yaml")[0]
SECRET = documents(BASE / "secret.example.yaml")[0]
SETTINGS = dict(re.findall(r"^(\w+)=(.*)$", (BASE / "settings.env").read_text(), re.MULTILINE))
DEPLOYMENTS = of_kind("Deployment")
PODS = {name: found["spec"]["template"] for name, found in of_kind("Deployment", "Job").items()}
SCALED, TRIGGERS = next(
    (found["spec"], found["spec"]["triggers"]) for found in resources(KEDA) if found["kind"] == "ScaledObject"
)
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def container(name: str) -> Document:
    """The only container of a Deployment or Job."""
    (found,) = PODS[name]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def selects(selector: Document, labels: dict[str, str]) -> bool:
    """Whether a label selector matches."""
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(
        labels.get(expression["key"]) in expression["values"]
        for expression in selector.get("matchExpressions", [])
        if expression["operator"] == "In"
    )


def labels_of(name: str) -> dict[str, str]:
    """The labels of a pod."""
    labels = PODS[name]["metadata"]["labels"]
    assert isinstance(labels, dict)
    return labels


def amount(quantity: str) -> float:
    """A quantity of cores or bytes as a number."""
    units = {"m": 1e-3, "": 1.0, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30}
    found = re.fullmatch(r"(\d+)(\w*)", quantity)
    assert found is not None
    return int(found[1]) * units[found[2]]


@pytest.mark.parametrize("folder", [BASE, KEDA], ids=["base", "keda"])
def test_every_file_is_in_its_kustomization(folder: Path) -> None:
    """What is named exists, and what lies there is named; only the example of the secrets is not applied."""
    kustomization = documents(folder / "kustomization.yaml")[0]
    named = {name for name in kustomization["resources"] if not name.startswith("..")}
    named |= {name for made in kustomization.get("configMapGenerator", []) for name in made["envs"]}
    there = {path.name for path in folder.iterdir()} - {"kustomization.yaml", "secret.example.yaml"}
    assert named == there
    assert all((folder / name).exists() for name in kustomization["resources"])


@pytest.mark.parametrize("release", RELEASES)
def test_every_resource_has_the_schema_of_kubernetes(release: str) -> None:
    """Each resource is one that Kubernetes takes: no unknown field, no wrong type."""
    for found in [*resources(BASE), SECRET]:
        kubernetes_validate.validate(found, release, strict=True)


def test_a_slip_of_the_pen_is_not_taken() -> None:
    """The schema is strict: a field that Kubernetes does not know is an error."""
    wrong = {**of_kind("Service")["goqueue-api"], "sepc": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, RELEASES[0], strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize(("folder", "more"), [(BASE, set()), (KEDA, {"ScaledObject"})], ids=["base", "keda"])
def test_kustomize_builds_them(folder: Path, more: set[str]) -> None:
    """`kubectl kustomize` makes all of it, with image, namespace and the name of the settings filled in."""
    run = subprocess.run(["kubectl", "kustomize", folder], check=True, capture_output=True, text=True)
    built = list(yaml.safe_load_all(run.stdout))
    assert {found["kind"] for found in built} >= {"Deployment", "Job", "NetworkPolicy", "ConfigMap"} | more
    (settings,) = [found for found in built if found["kind"] == "ConfigMap"]
    assert settings["data"] == SETTINGS
    for found in built:
        assert found["kind"] == "Namespace" or found["metadata"]["namespace"] == "goqueue"
        if found["kind"] in {"Deployment", "Job"}:
            pod = found["spec"]["template"]["spec"]["containers"][0]
            assert pod["image"] == COMPOSE["services"]["api"]["image"]
            assert pod["envFrom"][0]["configMapRef"]["name"] == settings["metadata"]["name"]
    workers = next(found for found in built if found["metadata"]["name"] == "goqueue-workers")
    assert ("replicas" in workers["spec"]) is (folder == BASE)


def test_all_pods_have_one_image_of_this_version() -> None:
    """Every role is the same image, of the version of this package, which is Compose's."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {container(name)["image"] for name in PODS} == {"goqueue"}
    assert KUSTOMIZATION["images"] == [{"name": "goqueue", "newTag": version}]
    assert COMPOSE["services"]["api"]["image"] == f"goqueue:{version}"


@pytest.mark.parametrize("name", PODS)
def test_every_command_is_one(name: str) -> None:
    """The arguments of each container are a command that `goqueue` has."""
    _parser().parse_args(container(name)["args"])


def test_every_role_is_there() -> None:
    """API, workers, quarantine and scheduler run, as under Compose; two schedulers, one quarantine."""
    roles = {container(name)["args"][0] for name in DEPLOYMENTS}
    assert roles == {"api", "worker", "scheduler"}
    assert DEPLOYMENTS["goqueue-scheduler"]["spec"]["replicas"] == 2
    assert DEPLOYMENTS["goqueue-quarantine"]["spec"]["replicas"] == 1
    assert container("goqueue-quarantine")["args"] == COMPOSE["services"]["quarantine"]["command"]
    assert container("goqueue-migrate")["args"] == ["migrate"]


@pytest.mark.parametrize("name", PODS)
def test_every_pod_is_hardened(name: str) -> None:
    """No root, no writable root file system, no capability, no token, a system call filter."""
    pod, held = PODS[name]["spec"], container(name)
    context = pod["securityContext"]
    assert (context["runAsNonRoot"], context["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert re.search(rf"^USER {context['runAsUser']}:{context['runAsGroup']}$", dockerfile(), re.MULTILINE)
    assert held["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert [mount["mountPath"] for mount in held["volumeMounts"]] == ["/tmp"]
    assert "emptyDir" in pod["volumes"][0]


def dockerfile() -> str:
    """The text of the Dockerfile."""
    return (ROOT / "Dockerfile").read_text()


@pytest.mark.parametrize("name", PODS)
def test_no_pod_gets_variables_of_services(name: str) -> None:
    """Kubernetes would set GOQUEUE_API_PORT to tcp://… because there is a Service goqueue-api."""
    assert PODS[name]["spec"]["enableServiceLinks"] is False


def test_nothing_asks_kubernetes() -> None:
    """There is no role to grant, so a pod that is taken over can do nothing in the cluster."""
    kinds = {found["kind"] for found in [*resources(BASE), *resources(KEDA)]}
    assert not kinds & {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    (account,) = of_kind("ServiceAccount").values()
    assert account["automountServiceAccountToken"] is False
    assert {PODS[name]["spec"]["serviceAccountName"] for name in PODS} == {account["metadata"]["name"]}


@pytest.mark.parametrize("name", PODS)
def test_requests_and_limits_are_set(name: str) -> None:
    """Each container asks for CPU and memory, and may have at least what it asks for."""
    found = container(name)["resources"]
    for resource in ("cpu", "memory"):
        assert 0 < amount(found["requests"][resource]) <= amount(found["limits"][resource])


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_selectors_match_their_pods_and_no_others(name: str) -> None:
    """A Deployment selects its own pods; so do its spreads."""
    selector = DEPLOYMENTS[name]["spec"]["selector"]
    assert [other for other in PODS if selects(selector, labels_of(other))] == [name]
    spreads = PODS[name]["spec"]["topologySpreadConstraints"]
    assert {spread["topologyKey"] for spread in spreads} == {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    }
    assert all(spread["labelSelector"] == selector for spread in spreads)


def test_the_service_leads_to_the_api() -> None:
    """The Service selects the API's pods alone, and its port is theirs."""
    (service,) = of_kind("Service").values()
    assert [
        name for name in PODS if selects({"matchLabels": service["spec"]["selector"]}, labels_of(name))
    ] == ["goqueue-api"]
    (port,) = service["spec"]["ports"]
    assert port["targetPort"] in {declared["name"] for declared in container("goqueue-api")["ports"]}
    assert port["port"] == Settings().api_port


def test_what_has_replicas_has_a_disruption_budget() -> None:
    """A drained node takes one pod of a role at a time; the single quarantine may always go."""
    budgets = of_kind("PodDisruptionBudget")
    assert budgets.keys() == {name for name, found in DEPLOYMENTS.items() if found["spec"]["replicas"] > 1}
    for name, budget in budgets.items():
        assert budget["spec"]["selector"] == DEPLOYMENTS[name]["spec"]["selector"]
        assert budget["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_every_role_has_its_probes(name: str) -> None:
    """Start, liveness and readiness are asked on the role's own port, by paths that it serves."""
    held = container(name)
    (port,) = held["ports"]
    setting = {"api": "API_PORT", "worker": "WORKER_METRICS_PORT", "scheduler": "SCHEDULER_METRICS_PORT"}
    assert str(port["containerPort"]) == SETTINGS[f"GOQUEUE_{setting[held['args'][0]]}"]
    paths = {kind: held[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {kind: asked["path"] for kind, asked in paths.items()} == {
        "startup": "/health/live",
        "liveness": "/health/live",
        "readiness": "/health/ready",
    }
    assert {asked["port"] for asked in paths.values()} == {port["name"]}


def test_the_probed_paths_are_routes() -> None:
    """The API has them, open to those without a key, and so has the port of workers and scheduler."""
    server = MonitoringServer("127.0.0.1", 0, Probes(list, list))
    server.start()
    for path in ("/health/live", "/health/ready"):
        assert ("GET", path) in OPERATIONS
        assert path in OPEN_PATHS
        assert server.answer(path, "localhost")[0] == 200
    server.stop()


@pytest.mark.parametrize(
    ("address", "host", "status"),
    [
        ("127.0.0.1", "evil.example:9191", 421),
        ("127.0.0.1", "localhost:9191", 200),
        ("127.0.0.1", None, 200),
        ("0.0.0.0", "10.1.2.3:9191", 200),
    ],
)
def test_a_port_on_loopback_answers_to_loopback_names(address: str, host: str | None, status: int) -> None:
    """No web page reads metrics by a name that it points at this machine; a pod is asked by its address."""
    server = MonitoringServer(address, 0, Probes(list, list))
    server.start()
    assert server.answer("/health/live", host)[0] == status
    server.stop()


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_a_pod_that_starts_has_time_for_it(name: str) -> None:
    """A start may take as long as the process waits for PostgreSQL, and liveness allows for three misses."""
    held = container(name)
    start = held["startupProbe"]
    waits = _parser().parse_args(held["args"]).wait
    assert start["periodSeconds"] * start["failureThreshold"] >= 2 * waits
    assert held["livenessProbe"]["failureThreshold"] >= 3


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_stopping_takes_no_longer_than_kubernetes_waits(name: str) -> None:
    """A pod is killed only after running jobs had their grace period and were given back."""
    sleeps = container(name).get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])
    drain = float(SETTINGS["GOQUEUE_SHUTDOWN_GRACE_SECONDS"]) + MARGIN_SECONDS + float(sleeps[1])
    assert PODS[name]["spec"]["terminationGracePeriodSeconds"] > drain


def environment(**kept: str) -> dict[str, str]:
    """What a pod gets: the settings, and secrets of its own but for those that are kept from the example."""
    own = {
        "GOQUEUE_DATABASE_URL": "postgresql://goqueue:a@postgres:5432/goqueue",
        "GOQUEUE_REDIS_URL": "redis://goqueue:b@redis:6379/0",
        "GOQUEUE_API_KEYS": hashlib.sha256(b"own").hexdigest(),
        "GOQUEUE_WEBHOOK_SECRET": "whsec_b3duIHNlY3JldCwgMzIgYnl0ZXMgb2YgaXQgb3Igc28=",
        "GOQUEUE_SMTP_URL": "smtp://mail:25",
    }
    assert own.keys() == SECRET["stringData"].keys()
    return SETTINGS | own | kept


def loaded(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> Settings:
    """The settings of a pod."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_every_variable_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod starts with them, in production, and listens to others than itself."""
    settings = loaded(monkeypatch, environment())
    assert settings.environment == "production"
    assert settings.api_host == settings.metrics_host == "0.0.0.0"


@pytest.mark.parametrize(
    "name", [name for name, value in SECRET["stringData"].items() if holds_example_secret(value)]
)
def test_no_secret_of_the_example_is_accepted(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whoever applies the example as it is gets pods that say which secret is not one."""
    with pytest.raises(ConfigurationError, match=name):
        loaded(monkeypatch, environment(**{name: SECRET["stringData"][name]}))


def test_the_sources_of_variables_exist() -> None:
    """Every pod has the settings that the kustomization makes, and the Secret of the example's name."""
    (made,) = KUSTOMIZATION["configMapGenerator"]
    for name in PODS:
        sources = container(name)["envFrom"]
        assert sources == [
            {"configMapRef": {"name": made["name"]}},
            {"secretRef": {"name": SECRET["metadata"]["name"]}},
        ]
        assert "env" not in container(name)
    assert not set(SETTINGS) & set(SECRET["stringData"])


def rules_for(name: str, direction: str) -> list[Document]:
    """What the policies allow a pod in one direction."""
    policies = of_kind("NetworkPolicy").values()
    return [
        rule
        for policy in policies
        if selects(policy["spec"]["podSelector"], labels_of(name))
        for rule in policy["spec"].get(direction, [])
    ]


def ports_for(name: str, direction: str) -> set[int]:
    """The ports that the policies open for a pod in one direction."""
    return {port["port"] for rule in rules_for(name, direction) for port in rule["ports"]}


def test_what_is_not_allowed_is_refused() -> None:
    """One policy selects every pod in both directions, and allows nothing."""
    denied = of_kind("NetworkPolicy")["goqueue-default-deny"]["spec"]
    assert denied["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in denied
    assert "egress" not in denied
    assert all(selects(denied["podSelector"], labels_of(name)) for name in PODS)


def test_the_policies_open_what_is_needed() -> None:
    """Every pod reaches names and servers; each is reached on its port alone; only workers go out."""
    servers = {53, 5432, 6432, 6379, 26379}
    for name in PODS:
        goes_out = name in {"goqueue-workers", "goqueue-quarantine"}
        assert ports_for(name, "egress") - servers == ({25, 80, 443, 465, 587} if goes_out else set())
        assert servers <= ports_for(name, "egress")
        opened = {port["containerPort"] for port in container(name).get("ports", [])}
        assert opened <= ports_for(name, "ingress")
    assert ports_for("goqueue-migrate", "ingress") == set()


def test_webhooks_reach_no_private_network() -> None:
    """What goes out leaves private, shared and link-local addresses (the metadata service) alone."""
    (rule,) = of_kind("NetworkPolicy")["goqueue-outgoing"]["spec"]["egress"]
    kept = {network for peer in rule["to"] for network in peer["ipBlock"]["except"]}
    assert kept >= {"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"}
    assert kept >= {"fc00::/7", "fe80::/10"}


def test_keda_asks_the_autoscale_route_of_every_queue() -> None:
    """Each built-in queue has a trigger, at the Service, by a route that has a number of that name."""
    (service,) = of_kind("Service").values()
    host = f"{service['metadata']['name']}.{KUSTOMIZATION['namespace']}.svc.cluster.local"
    queues = set()
    for trigger in TRIGGERS:
        asked = urlsplit(trigger["metadata"]["url"])
        found = re.fullmatch(r"/queues/(\w+)/autoscale", asked.path)
        assert found is not None
        queues.add(found[1])
        assert (asked.hostname, asked.port) == (host, service["spec"]["ports"][0]["port"])
        field = AutoscaleDocument.model_fields[trigger["metadata"]["valueLocation"]]
        assert field.annotation is int
        assert trigger["name"] == f"{found[1]}_threads"
    assert ("GET", "/queues/{name}/autoscale") in OPERATIONS
    assert (
        queues == {"email", "payment", "webhooks", *DEFAULT_TYPES} <= default().broker.get_declared_queues()
    )


def test_keda_scales_the_workers_by_the_sum() -> None:
    """The formula adds all triggers, and its target is the threads of one pod."""
    modifiers = SCALED["advanced"]["scalingModifiers"]
    assert modifiers["formula"].split(" + ") == [trigger["name"] for trigger in TRIGGERS]
    threads = int(SETTINGS["GOQUEUE_WORKER_PROCESSES"]) * int(SETTINGS["GOQUEUE_WORKER_THREADS"])
    assert modifiers["target"] == str(threads)
    assert {trigger["metadata"]["targetValue"] for trigger in TRIGGERS} == {str(threads)}
    assert modifiers["metricType"] == "AverageValue"
    assert SCALED["scaleTargetRef"]["name"] in DEPLOYMENTS
    assert SCALED["minReplicaCount"] <= SCALED["fallback"]["replicas"] <= SCALED["maxReplicaCount"]


def test_keda_has_a_key() -> None:
    """Every trigger is a bearer's, with the token of the one TriggerAuthentication."""
    (authentication,) = [found for found in resources(KEDA) if found["kind"] == "TriggerAuthentication"]
    assert {trigger["authenticationRef"]["name"] for trigger in TRIGGERS} == {
        authentication["metadata"]["name"]
    }
    assert {trigger["metadata"]["authMode"] for trigger in TRIGGERS} == {"bearer"}
    (secret,) = authentication["spec"]["secretTargetRef"]
    assert secret["parameter"] == "token"
