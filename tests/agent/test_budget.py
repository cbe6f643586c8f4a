"""The bytes that the agent holds for its clients."""

from __future__ import annotations

from remaphore.agent.budget import CLIENT_BYTES, TOTAL_BYTES, USER_BYTES, Budget


class Buffer:
    """The buffer of a connection: at most *unread* of the bytes that were written wait in it."""

    def __init__(self) -> None:
        self.unread = TOTAL_BYTES

    def __call__(self) -> int:
        return self.unread


def test_a_user_has_a_quarter_and_all_users_have_the_whole():
    budget = Budget()
    accounts = [budget.open(uid, Buffer()) for uid in (1, 1, 2, 3, 4, 5)]
    assert accounts[0].reserve(USER_BYTES - 1)
    assert not accounts[1].reserve(2)
    assert accounts[1].reserve(1)
    assert all(account.reserve(USER_BYTES) for account in accounts[2:5])
    assert budget.total == TOTAL_BYTES
    assert not accounts[5].queue(1)
    accounts[0].close()
    assert accounts[5].queue(CLIENT_BYTES)
    assert not accounts[5].queue(1)
    assert accounts[5].reserve(USER_BYTES - CLIENT_BYTES - 1)
    for account in accounts[1:]:
        account.close()
    assert budget.total == 0


def test_what_a_client_has_read_is_given_back():
    budget, buffer = Budget(), Buffer()
    account = budget.open(1, buffer)
    for _ in range(10):  # ten times as much as may wait, each read before the next
        assert account.queue(CLIENT_BYTES)
        buffer.unread = CLIENT_BYTES
        assert not budget.open(1, Buffer()).reserve(USER_BYTES - CLIENT_BYTES + 1)
        buffer.unread = 0
    assert account.waiting() == 0
    assert budget.total == 0


def test_a_reservation_is_held_until_it_is_released():
    budget = Budget()
    account = budget.open(1, Buffer())
    assert account.reserve(USER_BYTES)
    assert not account.reserve(1)
    account.release(1)
    assert account.reserve(1)
    account.close()
    assert budget.total == 0
