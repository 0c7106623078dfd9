"""Invalid values are rejected before anything is installed, with a message that says what to do."""

import pytest
import yaml
from helm_python.chart import Chart
from helm_python.errors import HelmError

from tests.support.manifests import merged, render, scenario


@pytest.mark.parametrize(
    "typo",
    [
        "replicaz: 3",
        "api: {replica: 3}",
        "workers: {ocr: {maxJob: 3}}",
        "workers: {vision: {keda: {maxReplica: 3}}}",
        "workers: {exif: {timeouts: {thumb: 3}}}",
        "nats: {credentials: {api: {secret: x}}}",
        "operator: {dedicated: {enable: true}}",
        "networkPolicy: {s3: {peers: []}}",
        "storage: {backend: nfs}",
        "workers: {lanes: [express]}",
        "workers: {exif: {enabled: false}}",
        "api: {replicas: 0}",
        "image: {tag: latest}",
        "settings: {max_upload_size_mb: 3}",
        "settings: {ADMIN_API_KEY: very-secret}",
        "settings: {DATABASE_URL: 'postgresql+asyncpg://a:b@c/d'}",
        "settings: {METRICS_PORT: 1}",
        f"metrics: {{clients: [{', '.join(f'c{n}' for n in range(51))}]}}",
        "crds: {by: kubectl}",
        f"fullnameOverride: {'a' * 33}",
    ],
)
def test_a_typo_is_rejected(chart: Chart, typo: str) -> None:
    with pytest.raises(HelmError, match="don't meet the specifications of the schema"):
        render(chart, merged(scenario("quickstart"), yaml.safe_load(typo)))


@pytest.mark.parametrize(
    ("base", "change", "message"),
    [
        ("production", "secrets: {existingSecret: ''}", "secrets.existingSecret"),
        ("production", "database: {existingSecret: ''}", "database.existingSecret"),
        ("production", "nats: {url: ''}", "nats.url"),
        ("production", "nats: {monitoringEndpoint: ''}", "nats.monitoringEndpoint"),
        ("production", "nats: {monitoringEndpoint: 'http://nats:8222'}", "without a scheme"),
        ("production", "nats: {bundled: {enabled: true}}", "choose one"),
        ("production", "postgresql: {bundled: {enabled: true}}", "choose one"),
        ("production", "storage: {s3: {bucket: ''}}", "storage.s3.bucket"),
        ("production", "networkPolicy: {database: {to: []}}", "networkPolicy.database.to"),
        ("production", "networkPolicy: {nats: {to: []}}", "networkPolicy.nats.to"),
        ("production", "networkPolicy: {s3: {to: []}}", "networkPolicy.s3.to"),
        ("production", "networkPolicy: {otlp: {to: []}}", "networkPolicy.otlp.to"),
        ("production", "api: {service: {type: LoadBalancer}}", "networkPolicy.apiFrom"),
        ("production", "keda: {enabled: false}", "dedicated workers need keda"),
        ("production", "keda: {scaleDownSeconds: 100}", "shorter than the longest stage, 180 s"),
        ("production", "workers: {vision: {timeouts: {vision: 120}}}", "twice ai.timeout"),
        ("production", "ai: {existingSecret: ''}", "ai.existingSecret"),
        ("production", "ingress: {hosts: []}", "ingress.hosts"),
        ("production", "api: {image: {tag: latest}}", "latest"),
        ("quickstart", "storage: {local: {singleNode: false}}", "ReadWriteMany"),
        ("quickstart", "api: {replicas: 2}", "more than one API pod"),
        ("quickstart", "api: {autoscaling: {enabled: true}}", "more than one API pod"),
    ],
)
def test_values_that_cannot_work_are_rejected_with_their_name(
    chart: Chart, base: str, change: str, message: str
) -> None:
    with pytest.raises(HelmError, match=message):
        render(chart, merged(scenario(base), yaml.safe_load(change)))


@pytest.mark.parametrize("provider", ["gemini", "openrouter", "offline", ""])
def test_every_provider_works_with_the_default_timeouts(chart: Chart, provider: str) -> None:
    ai = {"provider": provider, "existingSecret": "ai", "geminiApiKeyKey": "key", "openrouterApiKeyKey": "key"}
    rendered = render(chart, merged(scenario("production"), {"ai": ai}))
    assert rendered.of("Deployment")


def test_all_missing_values_are_reported_together(chart: Chart) -> None:
    with pytest.raises(HelmError) as error:
        render(chart, {})
    for value in ("secrets.existingSecret", "database.existingSecret", "nats.url", "storage.s3.bucket"):
        assert value in str(error.value)


def test_the_notes_warn_about_evaluation_settings_and_name_the_next_command(chart: Chart) -> None:
    quickstart, production = render(chart, scenario("quickstart")), render(chart, scenario("production"))
    assert "NOT FOR PRODUCTION" in quickstart.notes
    assert "NOT FOR PRODUCTION" not in production.notes
    for notes in (quickstart.notes, production.notes):
        assert "helm -n pictures test imago" in notes
        assert "rollout status deployment/imago-api" in notes
    assert "https://images.example.com" in production.notes


def test_large_numbers_in_settings_are_rendered_as_integers(chart: Chart) -> None:
    settings = {"MAX_IMAGE_PIXELS": 50_000_000, "UPLOAD_IDLE_TIMEOUT": 2.5, "DEBUG": False}
    rendered = render(chart, merged(scenario("quickstart"), {"settings": settings}))
    pods = [item["spec"]["template"]["spec"] for item in rendered.of("Deployment").values()]
    containers = [container for pod in pods for container in pod["containers"]]
    environments = [{item["name"]: item.get("value") for item in container.get("env", [])} for container in containers]
    found = [[env.get(name) for name in settings] for env in environments if "MAX_IMAGE_PIXELS" in env]
    assert found
    assert all(values == ["50000000", "2.5", "false"] for values in found)
