"""A reader of crontabs, by the rules of cron (crontab(5) of Debian), and its way to run a job."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

USUAL = {"PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
_VARIABLE = re.compile(r"\s*([A-Za-z_]\w*)\s*=\s*(.*?)\s*")
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_FIELD = re.compile(r"(?:\*|(\d+)(?:-(\d+))?)(?:/([1-9]\d*))?")


@dataclass(frozen=True)
class Job:
    """A job. command: as sh gets it. stdin: what follows the first unescaped `%`, None if there is none."""

    command: str
    stdin: str | None
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, programs: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run it as cron does. programs: stands in for /usr/local/bin."""
        places = {**USUAL, "HOME": str(programs), "LOGNAME": "root", **variables, **self.environment}
        environment = {name: value.replace("/usr/local/bin", str(programs)) for name, value in places.items()}
        command = ["/bin/sh", "-c", self.command.replace("/usr/local/bin", str(programs))]
        return subprocess.run(
            command, env=environment, cwd=programs, input=self.stdin or "", capture_output=True, text=True, check=False
        )


def jobs(text: str) -> Iterator[Job]:
    """Return the jobs of a user's crontab. Raises AssertionError for a line that is neither job nor variable."""
    environment: dict[str, str] = {}
    for line in filter(str.strip, text.splitlines()):
        variable = _VARIABLE.fullmatch(line)
        if variable and not line[0].isdigit():
            environment[variable[1]] = variable[2]  # cron expands nothing in it
        elif not line.startswith("#"):
            *times, command = line.split(None, 5)
            assert len(times) == 5, f"five fields and a command: {line}"
            assert all(map(_is_time, times, _RANGES)), f"not a time: {line}"
            first, *rest = re.split(r"(?<!\\)%", command)
            stdin = "\n".join(rest).replace(r"\%", "%") if rest else None
            yield Job(first.replace(r"\%", "%"), stdin, dict(environment))


def _is_time(text: str, limits: tuple[int, int]) -> bool:
    found = [_FIELD.fullmatch(part) for part in text.split(",")]
    low, high = limits
    return all(each and all(low <= int(number) <= high for number in each.groups()[:2] if number) for each in found)
