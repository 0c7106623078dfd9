"""The connections that the network policies allow, evaluated as a CNI plugin would."""

from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

import pytest
import yaml
from helm_python.chart import Chart

from imago.web import address_policy as addresses
from tests.support.manifests import Manifest, Rendered, render, scenario


def matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether a label selector matches these labels."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for expression in selector.get("matchExpressions", ()):
        assert expression["operator"] == "In"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def policies_of(rendered: Rendered, labels: Mapping[str, str], direction: str) -> list[Manifest]:
    """Return the policies that apply to a pod in a direction, `Ingress` or `Egress`."""
    return [
        item["spec"]
        for item in rendered.of("NetworkPolicy").values()
        if matches(item["spec"]["podSelector"], labels) and direction in item["spec"]["policyTypes"]
    ]


def allowed(rendered: Rendered, source: str, target: str, port: int | str, name: int | str | None = None) -> bool:
    """Return whether both sides allow a component to reach a port of another one, by number or by name."""
    both = []
    for direction, own, other in (("Egress", source, target), ("Ingress", target, source)):
        rules = [
            rule
            for spec in policies_of(rendered, labels_of(rendered, own), direction)
            for rule in spec.get(direction.lower(), ())
        ]
        peers = "to" if direction == "Egress" else "from"
        both.append(
            any(
                matches(peer["podSelector"], labels_of(rendered, other))
                for rule in rules
                if {port, name} & {each["port"] for each in rule["ports"]}
                for peer in rule[peers]
                if "podSelector" in peer and "namespaceSelector" not in peer
            )
        )
    return all(both)


def labels_of(rendered: Rendered, component: str) -> Mapping[str, str]:
    release = next(iter(rendered.of("Deployment").values()))["spec"]["selector"]["matchLabels"]
    return {**release, "app.kubernetes.io/component": component}


def outside(rendered: Rendered, component: str) -> list[Manifest]:
    """Return the addresses outside the cluster that a component may reach."""
    return [
        {**peer["ipBlock"], "ports": [each["port"] for each in rule["ports"]]}
        for spec in policies_of(rendered, labels_of(rendered, component), "Egress")
        for rule in spec.get("egress", ())
        for peer in rule["to"]
        if "ipBlock" in peer
    ]


COMPONENTS = (
    "api",
    "worker-exif",
    "worker-ocr",
    "worker-vision",
    "operator",
    "migrate",
    "test",
    "uninstall-guard",
    "crds",
)


@pytest.fixture(scope="module")
def quickstart(chart: Chart) -> Rendered:
    return render(chart, scenario("quickstart"))


@pytest.fixture(scope="module")
def production(chart: Chart) -> Rendered:
    return render(chart, scenario("production"))


def test_every_pod_has_a_default_deny_policy(rendered: Rendered) -> None:
    if not rendered.values["networkPolicy"]["enabled"]:
        assert not rendered.of("NetworkPolicy")
        return
    for name, pod in rendered.pods():
        labels = pod["metadata"]["labels"]
        for direction in ("Ingress", "Egress"):
            assert any(direction.lower() not in spec for spec in policies_of(rendered, labels, direction)), name


def test_connections_within_the_release(quickstart: Rendered) -> None:
    reached = {
        (source, target)
        for source in (*COMPONENTS, "postgresql", "nats")
        for target, port, name in (("api", 8000, "http"), ("postgresql", 5432, None), ("nats", 4222, None))
        if allowed(quickstart, source, target, port, name)
    }
    workers = ("worker-exif", "worker-ocr", "worker-vision")
    assert reached == {
        *((source, "api") for source in ("operator", "test")),
        *((source, "postgresql") for source in ("api", "migrate", *workers)),
        *((source, "nats") for source in ("api", "migrate", "operator", *workers)),
    }


def peers(rendered: Rendered, component: str, port: int | str) -> list[Manifest]:
    return [
        peer
        for spec in policies_of(rendered, labels_of(rendered, component), "Ingress")
        for rule in spec.get("ingress", ())
        if port in [each["port"] for each in rule["ports"]]
        for peer in rule["from"]
    ]


def namespace(name: str) -> Manifest:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def test_only_keda_can_read_the_lag(quickstart: Rendered) -> None:
    assert peers(quickstart, "nats", 8222) == [namespace("keda")]


@pytest.mark.parametrize("component", ["api", "worker-exif", "worker-ocr", "worker-vision", "operator"])
def test_only_prometheus_can_read_metrics(production: Rendered, component: str) -> None:
    assert peers(production, component, "metrics") == [namespace("monitoring")]


def test_the_ingress_and_clients_namespaces_reach_the_api(production: Rendered, quickstart: Rendered) -> None:
    from_elsewhere = [peer for peer in peers(production, "api", "http") if "namespaceSelector" in peer]
    assert from_elsewhere == [
        namespace("ingress-nginx"),
        {"namespaceSelector": {"matchLabels": {"imago.dev/client": "true"}}},
    ]
    assert not [peer for peer in peers(quickstart, "api", "http") if "namespaceSelector" in peer]


def test_all_namespaces_can_be_allowed(chart: Chart) -> None:
    values = {**scenario("quickstart"), "networkPolicy": {"clientNamespaceSelector": {}}}
    assert {"namespaceSelector": {}} in peers(render(chart, values), "api", "http")


def test_only_components_that_call_the_api_server_can_reach_it(production: Rendered) -> None:
    servers = [{"cidr": cidr, "ports": [443, 6443]} for cidr in ("10.43.0.1/32", "192.0.2.10/32")]
    for component in COMPONENTS:
        reached = [peer for peer in outside(production, component) if peer in servers]
        assert reached == (servers if component in ("operator", "uninstall-guard", "crds") else [])


def public(rendered: Rendered, component: str) -> bool:
    return any(peer["cidr"] == "0.0.0.0/0" for peer in outside(rendered, component))


def test_only_summaries_and_providers_can_reach_public_addresses(chart: Chart, production: Rendered) -> None:
    assert {component for component in COMPONENTS if public(production, component)} == {"api", "worker-vision"}
    with_ai = render(chart, scenario("own-parts"), name="pictures")
    with_provider = {component for component in COMPONENTS[:4] if public(with_ai, component)}
    assert with_provider == {"api", "worker-vision", "worker-ocr"}


def test_private_addresses_are_excluded_from_public_egress(production: Rendered) -> None:
    blocks = [peer for peer in outside(production, "worker-vision") if "except" in peer]
    assert {ip_network(peer["cidr"]).version for peer in blocks} == {4, 6}
    for text in (
        *("10.1.2.3", "172.20.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "168.63.129.16"),
        *("0.0.0.0", "198.18.0.1", "224.0.0.1", "255.255.255.255", "192.0.0.192"),
        *("::1", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "2001:db8::1", "2002:a00:1::", "64:ff9b::a00:1"),
    ):
        address = ip_network(text)
        assert addresses.refusal_reason(address.network_address) is not None, f"{text} is not a private address"
        for peer in blocks:
            block = ip_network(peer["cidr"])
            inside = block.version == address.version and address.subnet_of(block)  # type: ignore[type-var]
            excluded = any(address.subnet_of(ip_network(text)) for text in peer["except"] if inside)  # type: ignore[type-var]
            assert not inside or excluded, text


def test_every_component_can_use_dns(production: Rendered) -> None:
    for component in COMPONENTS:
        dns = [
            yaml.safe_dump(rule)
            for spec in policies_of(production, labels_of(production, component), "Egress")
            for rule in spec.get("egress", ())
            if {"protocol": "UDP", "port": 53} in rule["ports"]
        ]
        assert len(dns) == 1
