"""docker-compose.yml, its examples, the Dockerfile and docker/: what can be checked without an engine."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft201909Validator

from keymiss.local.processes import REDIS_CONF

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
EXAMPLES = sorted(ROOT.glob("compose.*.yml"))
DOCKERFILE = (ROOT / "Dockerfile").read_text()
DOCS = (ROOT / "docs/containers.md").read_text()
SCHEMA = json.loads((ROOT / "tests/compose/compose_spec.json").read_text())

ONE_SHOT = {"init", "cluster", "loader", "cli"}
"""Services that end by themselves: no health check, never started again."""
SHARDS = [f"shard-{number}" for number in range(1, 9)]
SECRETS = {
    "init": {"shard", "admin", "worker", "api", "monitor", "tls"},
    **{shard: {"shard"} for shard in SHARDS},
    "cluster": {"admin"},
    "loader": {"admin"},
    "cli": {"admin"},
    "worker": {"worker"},
    "api": {"api"},
    "nginx": {"tls"},
    "redis-exporter": {"monitor"},
    "prometheus": set(),
    "grafana": set(),
}
"""Which secret volumes a service has: only its own."""


def filled_in(text: str) -> str:
    """Variables replaced as compose does, by their defaults; one that must be given becomes given:1."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
    text = re.sub(r"\$\{\w+:\?[^}]*\}", "given:1", text)
    assert "${" not in text
    return text


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(filled_in(path.read_text()))
    return content


SERVICES: dict[str, dict[str, Any]] = read(COMPOSE)["services"]
LASTING = sorted(set(SERVICES) - ONE_SHOT)
each_service = pytest.mark.parametrize("name", sorted(SERVICES))
each_lasting = pytest.mark.parametrize("name", LASTING)


def seconds(text: str) -> int:
    assert re.fullmatch(r"\d+s", text), text
    return int(text[:-1])


# The composition


@pytest.mark.parametrize("path", [COMPOSE, *EXAMPLES], ids=lambda path: path.name)
def test_fits_the_compose_schema(path: Path) -> None:
    """Of docker-compose 1.29; extension fields x-* are allowed by it."""
    errors = [
        f"{list(e.absolute_path)}: {e.message}" for e in Draft201909Validator(SCHEMA).iter_errors(read(path))
    ]
    assert errors == []


def test_the_schema_is_one_that_can_refuse() -> None:
    wrong = {"services": {"one": {"imag": "x"}}}
    assert list(Draft201909Validator(SCHEMA).iter_errors(wrong))


@each_service
def test_has_as_few_rights_as_it_can(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert not service.get("privileged")
    assert service["security_opt"] == ["no-new-privileges:true"]
    user, group = str(service["user"]).split(":")
    assert int(user) >= 100, "not root, and a number: a name may be another one elsewhere"
    assert int(group) >= 0
    assert any(mount.startswith("/tmp:") for mount in service["tmpfs"])
    assert all("size=" in mount for mount in service["tmpfs"])


def test_only_the_front_is_published_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"nginx": ["127.0.0.1:8080:8443"], "grafana": ["127.0.0.1:3000:3000"]}
    assert not any(service.get("network_mode") == "host" for service in SERVICES.values())


def test_the_shards_are_on_a_network_without_a_way_out() -> None:
    assert read(COMPOSE)["networks"]["cluster"]["internal"] is True
    for shard in SHARDS:
        assert set(SERVICES[shard]["networks"]) == {"cluster"}
    assert set(SERVICES["nginx"]["networks"]) == {"front"}
    assert set(SERVICES["grafana"]["networks"]) == {"metrics"}


@each_service
def test_images_are_pinned(name: str) -> None:
    image, tag = SERVICES[name]["image"].rsplit(":", 1)
    assert re.fullmatch(r"\d+\.\d+\.\d+", tag)
    assert image == "grafana/grafana" or image.startswith("keymiss-")


def test_everybody_is_told_of_all_shards() -> None:
    nodes = ",".join(f"{shard}:6379" for shard in SHARDS)
    for name in ("cluster", "worker", "api", "loader", "prometheus"):
        assert SERVICES[name]["environment"]["KEYMISS_NODES"] == nodes, name
    assert set(SERVICES["cluster"]["depends_on"]) == set(SHARDS)
    targets = json.loads((ROOT / "prometheus/targets/redis.json").read_text())
    assert [target["labels"]["instance"] for target in targets] == nodes.split(",")


def test_the_example_with_more_shards_tells_everybody_too() -> None:
    services = read(ROOT / "compose.shards.example.yml")["services"]
    added = {name for name in services if name.startswith("shard-")}
    told = services["cluster"]["environment"]["KEYMISS_NODES"].split(",")
    assert {node.split(":")[0] for node in told} == {*SHARDS, *added}
    assert set(services["cluster"]["depends_on"]) == added
    for name in ("worker", "api", "loader", "prometheus"):
        assert services[name]["environment"]["KEYMISS_NODES"].split(",") == told


def test_every_shard_has_the_blobs_of_models_in_one_volume() -> None:
    services = SERVICES | read(ROOT / "compose.shards.example.yml")["services"]
    shards = {name: service for name, service in services.items() if name.startswith("shard-")}
    assert set(SHARDS) < set(shards)
    for name, service in shards.items():
        assert service["volumes"] == [f"{name}:/data", "blobs:/blobs", "secrets-shard:/secrets:ro"]
    assert "blobs" in read(COMPOSE)["volumes"]


def test_prometheus_is_told_of_every_worker_of_the_example() -> None:
    services = read(ROOT / "compose.override.example.yml")["services"]
    workers = ["worker", *(name for name in services if name.startswith("worker-"))]
    told = services["prometheus"]["environment"]["KEYMISS_WORKERS"]
    assert told == ",".join(f"{name}:8082" for name in workers)


@each_service
def test_every_service_has_its_own_secrets_only(name: str) -> None:
    mounted = {
        volume.split(":")[0].removeprefix("secrets-"): volume
        for volume in SERVICES[name].get("volumes", [])
        if volume.startswith("secrets-")
    }
    assert set(mounted) == SECRETS[name]
    if name != "init":
        assert all(volume.endswith(":/secrets:ro") for volume in mounted.values())


@each_service
def test_no_secret_is_written_down(name: str) -> None:
    for variable, value in SERVICES[name].get("environment", {}).items():
        if re.search(r"PASSWORD|SECRET|KEY$|TOKEN", variable):
            assert value == "" or variable.endswith("_FILE"), variable


def test_every_variable_is_documented() -> None:
    text = "".join(path.read_text() for path in (COMPOSE, *EXAMPLES, *sorted((ROOT / "docker").glob("*.sh"))))
    named = set(re.findall(r"\$\{(KEYMISS_\w+)", text)) - {
        "KEYMISS_SECRETS",
        "KEYMISS_GIVEN",
        "KEYMISS_ACL_TEMPLATE",
    }
    assert {"KEYMISS_SUBNET", "KEYMISS_SHARD_MEMORY", "KEYMISS_PUBLISH"} <= named
    assert sorted(name for name in named if f"`{name}`" not in DOCS) == []


def test_the_documented_defaults_are_so() -> None:
    defaults = dict(re.findall(r"\$\{(KEYMISS_\w+):-([^}]+)\}", COMPOSE.read_text()))
    documented = dict(re.findall(r"^\| `(KEYMISS_\w+)` \| `([^`]+)` \|", DOCS, re.M))
    assert documented
    assert {name: defaults.get(name) for name in documented} == documented


# The shards' settings, and the entrypoints


def directives(text: str) -> set[str]:
    return {line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")}


def test_a_shard_has_the_settings_of_a_local_node() -> None:
    local, shard = directives(REDIS_CONF), directives((ROOT / "docker/shard.conf").read_text())
    assert local - shard == {
        "bind {host}",
        "{ports}",
        "dir {data}",
        "pidfile {run}/redis-{port}.pid",
        "cluster-node-timeout 3000",
        "cluster-announce-ip {host}",
        "aclfile {users}",
        "masterauth {password}",
        "loadmodule {module}",
        "keymiss.model-folder {blobs}",
    }
    assert shard - local == {
        "port 6379",
        "protected-mode no",
        "dir /data",
        "aclfile /secrets/users.acl",
        "loadmodule /usr/local/lib/keymiss/keymiss.so",
        "keymiss.model-folder /blobs",
    }


def test_nginx_gets_all_that_its_template_asks_for() -> None:
    asked = set(re.findall(r"\$\{(\w+)\}", (ROOT / "nginx/nginx.conf.template").read_text()))
    script = (ROOT / "docker/nginx.sh").read_text()
    named = re.search(r"envsubst '([^']*)'", script)
    assert named
    assert set(named[1].replace("$", "").split()) == asked
    assert asked <= set(re.findall(r"\b([A-Z_]+)=", script))


USERS = {"admin": "admin", "worker": "worker", "api": "api", "replica": "shard", "monitor": "monitor"}


def run_init(folder: Path, **variables: str) -> dict[str, bytes]:
    """Runs docker/init.sh in a folder; what is in secrets/ then."""
    for name in ("shard", "admin", "worker", "api", "monitor", "tls"):
        (folder / "secrets" / name).mkdir(parents=True, exist_ok=True)
    (folder / "given").mkdir(exist_ok=True)
    subprocess.run(
        ["sh", str(ROOT / "docker/init.sh")],
        env={
            "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
            "KEYMISS_ACL_TEMPLATE": str(ROOT / "acl/users.acl.template"),
            "KEYMISS_SECRETS": str(folder / "secrets"),
            "KEYMISS_GIVEN": str(folder / "given"),
            **variables,
        },
        check=True,
        capture_output=True,
    )
    files = [path for path in (folder / "secrets").rglob("*") if path.is_file()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in files)
    return {str(path.relative_to(folder / "secrets")): path.read_bytes() for path in files}


def test_init_makes_secrets_once(tmp_path: Path) -> None:
    first = run_init(tmp_path)
    assert set(first) == {
        *(f"{volume}/password" for volume in USERS.values()),
        "shard/users.acl",
        "tls/cert.pem",
        "tls/key.pem",
    }
    passwords = {first[f"{volume}/password"] for volume in USERS.values()}
    assert len(passwords) == len(USERS)
    assert all(re.fullmatch(rb"[0-9a-f]{64}\n", password) for password in passwords)
    assert run_init(tmp_path) == first


def test_init_writes_digests_of_the_passwords_for_the_servers(tmp_path: Path) -> None:
    made = run_init(tmp_path)
    acl = made["shard/users.acl"].decode()
    assert "user default off" in acl
    for user, volume in USERS.items():
        password = made[f"{volume}/password"].rstrip(b"\n")
        assert f"user {user} on #{hashlib.sha256(password).hexdigest()} " in acl
        assert password.decode() not in acl


def test_init_takes_what_is_given(tmp_path: Path) -> None:
    run_init(tmp_path)
    (tmp_path / "given" / "api").write_text("from a file\n")
    (tmp_path / "given" / "cert.pem").write_text("a certificate\n")
    (tmp_path / "given" / "key.pem").write_text("a key\n")
    made = run_init(tmp_path, KEYMISS_WORKER_PASSWORD="from the environment")
    assert made["api/password"] == b"from a file\n"
    assert made["worker/password"] == b"from the environment\n"
    assert (made["tls/cert.pem"], made["tls/key.pem"]) == (b"a certificate\n", b"a key\n")
    assert hashlib.sha256(b"from a file").hexdigest() in made["shard/users.acl"].decode()


@pytest.mark.parametrize(
    "script",
    [*sorted((ROOT / "docker").glob("*.sh")), ROOT / "scripts/docker.sh"],
    ids=lambda script: script.name,
)
def test_scripts_are_sound(script: Path) -> None:
    text = script.read_text()
    assert script.stat().st_mode & 0o111
    assert re.search(r"^set -eu", text, re.M)
    assert not re.search(r"\bcurl .*\| *(ba)?sh", text)
    shell = text.splitlines()[0].removeprefix("#!/usr/bin/env ").removeprefix("#!")
    subprocess.run([shell, "-n", str(script)], check=True)
    if shutil.which("shellcheck"):
        checked = subprocess.run(["shellcheck", "-x", str(script)], capture_output=True, text=True, cwd=ROOT)
        assert checked.stdout == ""


# The Dockerfile


def stages() -> Iterator[tuple[str, str, list[str]]]:
    """Of each stage its name, what it is from, and its instructions with their continued lines."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M).replace("\\\n", " ")
    for part in re.split(r"^(?=FROM )", text, flags=re.M)[1:]:
        lines = [line for line in part.splitlines() if line.strip()]
        head = re.fullmatch(r"FROM (\S+) AS (\S+)", lines[0])
        assert head, lines[0]
        yield head[2], head[1], lines[1:]


STAGES = {name: (base, lines) for name, base, lines in stages()}
FINAL = sorted({service["build"]["target"] for service in SERVICES.values() if "build" in service})


def test_the_base_is_pinned_and_the_only_one() -> None:
    outside = {base for base, _ in STAGES.values() if base not in STAGES}
    assert outside == {"debian:bookworm-slim"}


@pytest.mark.parametrize("target", FINAL)
def test_a_final_image_is_nobodys_root(target: str) -> None:
    lines = STAGES[target][1]
    assert "USER 10001:10001" in lines
    after = lines[lines.index("USER 10001:10001") + 1 :]
    assert not any(line.startswith(("USER", "RUN")) for line in after)
    assert any(line.startswith("ENTRYPOINT [") for line in lines)


def test_no_secret_is_in_an_image() -> None:
    named = re.findall(r"^(?:ARG|ENV) (.*)$", DOCKERFILE, re.M)
    assert named
    assert not [line for line in named if re.search(r"PASSWORD|SECRET|TOKEN|_KEY", line)]
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignored[1] == "*", "what is not named stays out"
    assert "docker/secrets" in ignored
    assert ignored.index("docker/secrets") > ignored.index("!docker")


def test_what_is_copied_is_not_ignored() -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for _, lines in STAGES.values():
        for line in lines:
            if not line.startswith("COPY ") or "--from=" in line:
                continue
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source
                assert any(
                    source == entry or source.startswith(f"{entry}/") or entry.startswith(f"{source}/")
                    for entry in allowed
                ), source


# The lock files


def locked(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Of a lock file: package -> (version, hashes)."""
    found = {}
    for block in re.split(r"\n(?=[a-z0-9])", (ROOT / name).read_text()):
        head = re.match(r"([a-z0-9._-]+)==(\S+)", block)
        if head:
            found[head[1]] = (head[2], frozenset(re.findall(r"--hash=(\S+)", block)))
    return found


@pytest.mark.parametrize("part", ["api", "worker", "loader"])
def test_a_part_has_the_versions_of_the_whole(part: str) -> None:
    whole, mine = locked("requirements.lock"), locked(f"requirements-{part}.lock")
    assert mine
    assert {name: whole.get(name) for name in mine} == mine
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = {"loader": "load"}.get(part, part)
    wanted = project["dependencies"] + project["optional-dependencies"][extra]
    assert {re.split(r"[=\[]", line)[0].lower() for line in wanted} - {"keymiss"} <= set(mine)


def test_the_images_have_what_they_need_and_not_more() -> None:
    api, worker, loader = (locked(f"requirements-{part}.lock") for part in ("api", "worker", "loader"))
    assert "torch" not in api
    assert "onnxruntime" not in api
    assert "transformers" not in worker
    assert set(worker) < set(loader)
    assert "transformers" in loader
