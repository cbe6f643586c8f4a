"""No two nodes hold one slot under any schedule, and the simulation finds each wrong rule."""

import pytest

from remaphore.protocol import lease
from tests.protocol.lease_simulation import BROKEN_RULES, TTLS, Simulation

SCHEDULES = [500, pytest.param(5_000, marks=[pytest.mark.long, pytest.mark.timeout(1200)])]


@pytest.fixture(autouse=True)
def limit(monkeypatch):
    """As short as the longest lease here, so that a node does not wait an hour of virtual time after junk."""
    monkeypatch.setattr(lease, "MAX_TTL", max(TTLS))


@pytest.mark.parametrize("schedules", SCHEDULES)
def test_no_two_commands_live_at_one_time_and_no_token_goes_back(schedules):
    leases = 0
    for seed in range(schedules):
        done = Simulation(seed).run()
        assert done.faults == [], f"schedule {seed}"
        leases += len(done.tokens)
    assert leases > 20 * schedules  # else they prove nothing


@pytest.mark.parametrize("broken", BROKEN_RULES)
def test_each_wrong_rule_is_found(broken):
    # The rarest is found once in some hundred schedules; this is where the search is short.
    assert any(Simulation(seed, broken).run().faults for seed in range(360, 1_360))
