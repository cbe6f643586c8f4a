"""Whatever a test finds, it leaves no process behind."""

from tests.harness.programs import brief_grace, no_subreaper, no_survivor, put_forward

__all__ = ["brief_grace", "no_subreaper", "no_survivor", "put_forward"]
