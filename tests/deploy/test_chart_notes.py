"""What an operator reads: the notes after an install, and the sentences of what is refused."""

from __future__ import annotations

import os
import re
from contextlib import nullcontext
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any

import helm_python
import pytest

from deploy.process_settings import secrets_of
from deploy.render import CHART, NAMESPACE, RELEASE, VARIANTS, rendered, variants
from deploy.workloads import environment, workloads
from histill.cli import checks
from histill.client.settings import load_client

if TYPE_CHECKING:
    from pathlib import Path

    from deploy.render import Values


ROUTE = {"enabled": True, "parentRefs": [{"name": "gateway"}]}


def installed(values: Values) -> dict[str, Any]:
    """A client-side install, as ``helm install --dry-run=client`` makes it; no cluster."""
    with helm_python.Config(namespace=NAMESPACE, storage_driver="memory") as config:
        return config.install(CHART, RELEASE, values, dry_run="client")


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_install_tells_how_to_go_on(variant: str) -> None:
    """Where it is, how it is tested, and how the services are reached."""
    release = installed(variants()[variant])
    assert release["namespace"] == NAMESPACE
    notes = release["notes"]
    assert notes == rendered(variant).notes
    assert f"helm test {RELEASE} -n {NAMESPACE}" in notes
    names = {each["metadata"]["name"] for each in rendered(variant).of_kind("Service")}
    forwarded = set(re.findall(r"svc/(\S+)", notes))
    assert forwarded <= names, "a Service that is not there"
    assert len(forwarded) >= 3
    assert "\n\n\n" not in notes


@pytest.mark.parametrize("variant", VARIANTS)
def test_notes_hold_no_secret(variant: str) -> None:
    """They say where a key lies; terminals and pipelines keep what they print."""
    found = rendered(variant)
    secret = secrets_of(variant)
    secrets = [
        value
        for workload in workloads(found.objects)
        for container in workload.containers
        for name, value in environment(container, found.objects, secret).items()
        if any("secretKeyRef" in str(each) for each in container["env"] if each["name"] == name)
    ]
    assert secrets
    assert [each for each in secrets if len(each) > 8 and each in found.notes] == []


_EXPORT = re.compile(r"(HISTILL_\w+)=(\$\(.*?\)|\S+)")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_command_line_goes_where_the_notes_lead(
    variant: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With what they export it asks services elsewhere, at the ports that they forward."""
    notes = rendered(variant).notes
    exported = dict(_EXPORT.findall(notes))
    for name in [each for each in os.environ if each.startswith("HISTILL_")]:
        monkeypatch.delenv(name)
    for name, value in exported.items():
        monkeypatch.setenv(name, value)
    settings = load_client(tmp_path)
    forwarded = dict(re.findall(r"svc/\S+-(jobs|registry|inference) (\d+)", notes))
    assert {f"HISTILL_CLIENT__{name.upper()}" for name in forwarded} <= set(exported)
    told = {name: getattr(settings, name).rpartition(":")[2] for name in forwarded}
    assert told == forwarded
    # Else it would look after a system of its own, in a folder here.
    monkeypatch.setattr(checks, "is_serving", lambda *_, **__: True)
    monkeypatch.setattr(checks, "open_channel", lambda *_: nullcontext())
    assert next(checks.every_check(tmp_path)).name == "jobs"
    files = re.findall(r"> (\S+?\.(?:crt|key))\b", notes)
    named = [settings.ca_file, settings.certificate, settings.key]
    assert files == [each for each in named if each]


GUESTS: Values = {"web": {"allowAnonymous": True}}
NOBODY_SIGNS_IN: Values = GUESTS | {"auth": {"mode": "none", "allowUnauthenticated": True}}
INGRESS = {"enabled": True, "hosts": ["x"], "tls": [{"hosts": ["x"], "secretName": "x"}]}
REACHED: Values = {
    "web": {"ingress": INGRESS},
    "networkPolicy": {"webClients": [{"podSelector": {}}]},
}


@pytest.mark.parametrize(
    ("values", "words", "not_there"),
    [
        (
            {},
            ["no TLS", "Valkey and MinIO", "get secret demo-histill-keys", "and sign in with"],
            ["auth.mode", "allowAnonymous", "trustedProxies", "web.service"],
        ),
        (
            {"auth": {"mode": "none", "allowUnauthenticated": True}},
            ["auth.mode is none", "asks nobody to sign in"],
            ["sign in with"],
        ),
        (GUESTS, ["web.allowAnonymous is true"], []),
        (NOBODY_SIGNS_IN, [], ["web.allowAnonymous is true"]),
        ({"web": {"service": {"type": "NodePort"}}}, ["web.service.type is NodePort"], []),
        (REACHED, ["web.trustedProxies is empty", "https://x,"], ["localhost:8080,"]),
        ({"tls": {"enabled": True, "existingSecret": "x"}}, ["CA_FILE"], ["no TLS"]),
        ({"web": {"enabled": False}}, [], ["-web"]),
        ({"auth": {"existingSecret": "own"}}, ["with an API key of yours"], ["get secret"]),
        ({"minio": {"persistence": {"enabled": False}}}, ["minio.persistence.enabled"], []),
        (
            variants()["external"],
            ["or with a token of https://login.example.org", "https://histill.example.org,"],
            ["come with the chart", "allowAnonymous", "trustedProxies"],
        ),
        (variants()["minimal"], ["No setup Job runs"], ["come with the chart"]),
        (variants()["gpu-keda"], [], ["BackendTLSPolicy"]),
        (
            {"tls": {"enabled": True, "existingSecret": "x"}, "inference": {"grpcRoute": ROUTE}},
            ["BackendTLSPolicy", "which x must name"],
            [],
        ),
    ],
    ids=lambda each: str(each)[:40],
)
def test_notes_warn_of_what_is_not_for_production(
    values: Values, words: list[str], not_there: list[str]
) -> None:
    """And of nothing else: a warning that is always there is not read."""
    notes = installed(values)["notes"]
    assert [word for word in words if word not in notes] == []
    assert [word for word in not_there if word in notes] == []


OIDC = {"issuer": "https://x.example"}
SCALED = {"enabled": True, "prometheus": {"serverAddress": "http://p:9090"}}
CERT = {"enabled": True, "issuerRef": {"name": "x"}}
REFUSED: list[tuple[Values, str]] = [
    ({"auth": {"mode": "none"}}, "set auth.allowUnauthenticated to true"),
    ({"auth": {"allowUnauthenticated": True}}, "goes with auth.mode none only"),
    ({"auth": {"oidc": OIDC}}, "needs auth.oidc.audience and auth.oidc.roles"),
    (
        {
            "auth": {
                "mode": "none",
                "allowUnauthenticated": True,
                "oidc": OIDC | {"audience": "x", "roles": {"a": "viewer"}},
            }
        },
        "auth.oidc goes with auth.mode keys",
    ),
    ({"valkey": {"enabled": False}}, "set redis.existingSecret"),
    ({"redis": {"existingSecret": "x"}}, "set valkey.enabled to false"),
    ({"minio": {"enabled": False}}, "set s3.endpoint and s3.existingSecret"),
    ({"s3": {"endpoint": "s3.example:443"}}, "set minio.enabled to false"),
    ({"tls": {"enabled": True}}, "set tls.existingSecret, or tls.certManager.enabled"),
    (
        {"tls": {"enabled": True, "existingSecret": "x", "certManager": CERT}},
        "two sources of one certificate",
    ),
    (
        {"tls": {"enabled": True, "certManager": {"enabled": True}}},
        "needs tls.certManager.issuerRef.name",
    ),
    (
        {"tls": {"enabled": True, "existingSecret": "x", "mtls": {"enabled": True}}},
        "needs tls.mtls.clientSecret",
    ),
    ({"tls": {"existingSecret": "x"}}, "do nothing while tls.enabled is false"),
    ({"web": {"ingress": {"enabled": True}}}, "needs web.ingress.hosts"),
    (
        {"web": {"ingress": {"enabled": True, "hosts": ["x"]}}},
        "needs web.ingress.tls: keys and images",
    ),
    ({"web": {"ingress": INGRESS}}, "needs networkPolicy.webClients"),
    (
        {"web": {"ingress": {"enabled": True, "hosts": ["x"], "tlsElsewhere": True}}},
        "needs networkPolicy.webClients",
    ),
    ({"inference": {"grpcRoute": {"enabled": True}}}, "needs inference.grpcRoute.parentRefs"),
    (
        {
            "inference": {"grpcRoute": ROUTE},
            "tls": {
                "enabled": True,
                "existingSecret": "x",
                "mtls": {"enabled": True, "clientSecret": "y"},
            },
        },
        "inference.grpcRoute ends TLS at the gateway",
    ),
    (
        {"registry": {"service": {"externalTrafficPolicy": "Local"}}},
        "registry.service: externalTrafficPolicy",
    ),
    (
        {"web": {"service": {"loadBalancerSourceRanges": ["10.0.0.0/8"]}}},
        "web.service: externalTrafficPolicy",
    ),
    (
        {"inference": {"replicas": 2, "autoscaling": {"enabled": True}}},
        "remove inference.replicas",
    ),
    (
        {"inference": {"autoscaling": {"enabled": True, "occupancy": ""}}},
        "needs inference.autoscaling.occupancy or cpuUtilization",
    ),
    (
        {"inference": {"autoscaling": {"enabled": True, "minReplicas": 11}}},
        "minReplicas is above maxReplicas",
    ),
    ({"worker": {"defaultPool": "gpu"}}, "worker.defaultPool is gpu, which is not enabled"),
    ({"worker": {"defaultPool": "other"}}, "worker.defaultPool is other, which is not enabled"),
    (
        {"worker": {"pools": {"p" * 30: {"enabled": True}}}, "fullnameOverride": "f" * 30},
        "longer than the 52",
    ),
    ({"worker": {"replicas": 2, "autoscaling": SCALED}}, "default: autoscaling decides"),
    ({"worker": {"autoscaling": {"enabled": True}}}, "worker.autoscaling.prometheus.serverAddress"),
    (
        {
            "worker": {
                "autoscaling": SCALED
                | {"prometheus": {"serverAddress": "http://p:9090", "authenticationRef": "x"}}
            }
        },
        "authenticationRef needs authModes",
    ),
    (
        {"worker": {"autoscaling": SCALED | {"minReplicas": 5}}},
        "autoscaling.minReplicas is above maxReplicas",
    ),
    ({"jobs": {"settings": {"LOG__LEVEL": "debug"}}}, "HISTILL_LOG__LEVEL already"),
    ({"jobs": {"settings": {"SERVER__PORT": "1"}}}, "know the chart's own addresses"),
]


@cache
def refusal(at: int) -> str:
    """What an install with values from the table is refused with; empty: it is not."""
    try:
        installed(REFUSED[at][0])
    except helm_python.HelmError as exc:
        return str(exc)
    return ""


@pytest.mark.parametrize("at", range(len(REFUSED)), ids=[each[1] for each in REFUSED])
def test_values_that_make_no_sense_are_refused_with_a_way_out(at: int) -> None:
    """Before anything is installed, and in the words of the values."""
    assert REFUSED[at][1] in refusal(at)


def test_every_refusal_of_the_templates_is_met() -> None:
    """Each sentence after ``fail`` comes from some values above."""
    texts = [path.read_text() for path in CHART.glob("templates/**/*") if path.is_file()]
    sentences = chain.from_iterable(
        re.findall(r'fail \(?(?:printf )?"((?:[^"\\]|\\.)*)"', text) for text in texts
    )
    patterns = {re.sub(r"%[sdq]", ".*", re.escape(each)) for each in sentences}
    assert len(patterns) > 20
    met = [refusal(at) for at in range(len(REFUSED))]
    assert {each for each in patterns if not any(re.search(each, words) for words in met)} == set()
