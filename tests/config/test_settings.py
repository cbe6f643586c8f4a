"""Which identity signs, and which may send."""

import pytest

from remaphore.config import legacy
from remaphore.errors import NotPermittedError
from remaphore.protocol.keys import PrivateKey

FIRST = PrivateKey(b"\1" * 32)
SECOND = PrivateKey(b"\2" * 32)
CONFIG = legacy.parse(
    f"server: a\ncredentials: c\ndestination: d\ndefault_identity: {SECOND.public}\n[Identities]\n"
    f"{FIRST.public} {FIRST.reveal()} [*]\n{SECOND.public} {SECOND.reveal()} [ping]\n",
    "test.conf",
)


def test_the_default_identity_is_accepted_unless_another_is_named():
    assert CONFIG.identity().key == SECOND.public
    assert CONFIG.identity(FIRST.public).key == FIRST.public


def test_an_identity_sends_the_verbs_it_lists_and_no_other_sends_for_it():
    assert CONFIG.sender("ping").key == SECOND.public
    assert CONFIG.sender("deploy", FIRST.public).key == FIRST.public
    with pytest.raises(NotPermittedError) as caught:
        CONFIG.sender("deploy")
    assert str(caught.value) == (
        f"no private key with sender permission found: {SECOND.public} may send ping, not 'deploy' (test.conf)"
    )


def test_a_verb_is_compared_letter_by_letter():
    with pytest.raises(NotPermittedError):
        CONFIG.sender("PING")


def test_a_key_that_is_not_ours_signs_nothing():
    stranger = PrivateKey(b"\3" * 32).public
    with pytest.raises(NotPermittedError, match=f"no identity with the key {stranger} in test.conf"):
        CONFIG.identity(stranger)
