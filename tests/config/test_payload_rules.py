"""Payload rules in a configuration: what is read, and the place that an error names."""

from __future__ import annotations

from pathlib import Path

import pytest

from remaphore.config import toml
from remaphore.errors import ConfigError
from remaphore.protocol.keys import PrivateKey
from remaphore.protocol.payloads import PayloadRule
from remaphore.protocol.peers import Peer

OURS, OTHER = PrivateKey(b"\1" * 32), PrivateKey(b"\2" * 32)
HEAD = f"""\
destination = "com.example.left"
servers = ["nats://a:4222"]
auth = "none"
[[identities]]
key = "{OURS.public}"
private_key_file = "ops.key"
verbs = ["ping"]
[[peers]]
destination = "com.example.ci"
key = "{OTHER.public}"
verbs = ["Ping"]
"""


def read(only: str) -> Peer:
    (peer,) = toml.parse(HEAD + only, "remaphore.toml", Path("/")).peers
    return peer


def test_a_rule_permits_its_verb_with_these_payloads_alone() -> None:
    peer = read("""
[peers.only.Deploy]
payloads = ["stop", ""]
pattern = 'v[0-9]{1,4}( --dry-run)?'
max_length = 20
[peers.only.status]
max_length = 1
""")
    assert peer.verbs == {"ping", "deploy", "status"}
    deploy = PayloadRule.of(payloads=["stop", ""], pattern="v[0-9]{1,4}( --dry-run)?", max_length=20)
    assert peer.only == {"deploy": deploy, "status": PayloadRule.of(max_length=1)}


@pytest.mark.parametrize("only", ['only.deploy.payloads = ["stop"]', 'only = { deploy = { payloads = ["stop"] } }'])
def test_a_rule_can_be_written_in_each_form_that_toml_has(only: str) -> None:
    assert read(only).only == {"deploy": PayloadRule.of(payloads=["stop"])}


@pytest.mark.parametrize(
    ("only", "error"),
    [
        ("[peers.only.deploy]\n", "peers[0].only.deploy: permits nothing"),
        ("[peers.only.deploy]\npayloads = []\n", "peers[0].only.deploy: permits nothing"),
        ("[peers.only.deploy]\npayload = 'a'\n", "peers[0].only.deploy.payload: unknown key"),
        ("[peers.only.deploy]\npayloads = 'a'\n", "peers[0].only.deploy.payloads: must be an array, not a string"),
        ("[peers.only.deploy]\npayloads = [1]\n", "peers[0].only.deploy.payloads[0]: must be a string, not an integer"),
        ("[peers.only.deploy]\npattern = 'a.'\n", "peers[0].only.deploy.pattern: a bare dot"),
        ("[peers.only.deploy]\npattern = ''\n", "peers[0].only.deploy.pattern: empty"),
        ("[peers.only.deploy]\npattern = '(a+)+'\n", "peers[0].only.deploy.pattern: a repetition inside a repetition"),
        ("[peers.only.deploy]\nmax_length = 0\n", "peers[0].only.deploy.max_length: must be 1 or more"),
        ("[peers.only.deploy]\npattern = 'a'\nmax_length = 9999\n", "peers[0].only.deploy.max_length: more than 4096"),
        ("[peers.only.deploy]\npayloads = ['a']\nmax_length = 9\n", "peers[0].only.deploy.max_length: has no effect"),
        ("[peers.only.'*']\npattern = 'a'\n", 'peers[0].only."...": not a verb'),
        ("[peers.only.'a,b']\npattern = 'a'\n", 'peers[0].only."...": a verb cannot contain a comma'),
        ("[peers.only.a]\npattern = 'a'\n[peers.only.A]\npattern = 'b'\n", "peers[0].only.A: the same verb twice"),
        ("only = 'deploy'\n", "peers[0].only: must be a table, not a string"),
        ("[peers.only]\ndeploy = ['a']\n", "peers[0].only.deploy: must be a table, not an array"),
    ],
)
def test_a_wrong_rule_is_refused_with_its_place_and_a_hint(only: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(only)
    assert str(caught.value).startswith(f"remaphore.toml: {error}")
    assert caught.value.hint
