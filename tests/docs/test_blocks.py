"""Every block of code of a page is read by what reads it in use: a shell, cron, Python, our readers, Prometheus."""

import ast
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import tomli
import yaml

from remaphore.cli import arguments
from remaphore.cli.commands import COMMANDS
from remaphore.cli.legacy.flags import FLAGS
from remaphore.config import toml
from remaphore.errors import RemaphoreError
from remaphore.protocol import wire
from tests.docs import crontab
from tests.docs.pages import ROOT, blocks, fences, pages
from tests.harness.factories import make_key
from tests.plugins.metrics_daemon import serving

# Blocks of `text` that no program reads, by their first line.
FOR_READERS = {
    "docs/architecture.md": "NATS --> transport --> gate ------------> receiving --------> hooks (pluggy)",
    "docs/coordination.md": "remaphore: lock deploy: held by ",
    "docs/hooks.md": "remaphore: error: ",
    "README.md": "destination,exit-code,output",
    "docs/running.md": "com.example.web: receiving, up",
    "docs/wire.md": "base58(public key),base58(signature),destination,time,uuid,verb,flag,payload",
}
NODE = f"""\
destination = "com.example.node"
servers = ["nats://localhost"]
auth = "none"
[[identities]]
key = "{make_key(1).public}"
private_key_file = "node.key"
verbs = ["ping"]
"""
ALERT = {"alert", "expr", "for", "labels", "annotations", "keep_firing_for"}  # keys of a rule of Prometheus

TASK = {"name", "notify", "register", "changed_when", "delegate_to", "become", "loop"}  # keys of a task of Ansible
# Variables of the inventory, and of Ansible itself.
GIVEN = {"destination", "may_send", "item", "playbook_dir", "inventory_hostname"}


def read_shell(_page, text):
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def read_console(page, text):
    (block,) = blocks(f"```console\n{text}```\n")
    read_shell(page, "".join(f"{command.text}\n" for command in block.commands))


def read_cron(_page, text):
    found = [*crontab.jobs(text)]
    assert found
    for job in found:
        assert job.stdin is None, f"an unescaped % ends the command: {job.command}"
        read_shell(_page, job.command + "\n")


def read_python(page, text):
    ast.parse(text, page)


def read_toml(_page, text):
    if "[project]" in text:  # of a plugin; test_writing_plugins.py builds it
        assert tomli.loads(text)["build-system"]
        return
    key = make_key(2).public
    for placeholder in ("<its public key>", "..."):
        text = text.replace(f'key = "{placeholder}"', f'key = "{key}"')
    text = text.replace("<our public key>", make_key(1).public)
    whole = text if "private_key_file" in text else NODE + text
    assert toml.parse(whole, "remaphore.toml", Path("/etc/remaphore")).warnings == ()


def read_yaml(_page, text):
    found = yaml.safe_load(text)
    if isinstance(found, list):
        read_playbook(found)
        return
    (group,) = found["groups"]
    assert group["name"]
    assert group["rules"]
    for rule in group["rules"]:
        assert {"alert", "expr"} <= rule.keys() <= ALERT


def read_playbook(plays):
    """Check the structure of a playbook of Ansible, and that what a task notifies or reads exists."""
    for play in plays:
        assert {"name", "hosts", "tasks"} <= play.keys() <= {"name", "hosts", "become", "vars", "tasks", "handlers"}
        handlers = play.get("handlers", [])
        for task in (*play["tasks"], *handlers):
            (module,) = task.keys() - TASK
            assert re.fullmatch(r"ansible\.builtin\.[a-z_]+", module), f"write the full name of {module}"
            assert isinstance(task[module], dict)
            assert task["name"]
            assert task.get("notify") in {None, *(handler["name"] for handler in handlers)}
        whole = yaml.safe_dump(play)
        variables = {*re.findall(r"{{ ([a-z_]+)[ .]", whole)}
        registered = {task["register"] for task in play["tasks"] if "register" in task}
        assert variables <= {*play.get("vars", {}), *registered, *GIVEN}


def read_text(page, text):
    for line in text.splitlines():
        if line.startswith("remaphore "):
            read_usage(line)
        elif page in FOR_READERS and text.startswith(FOR_READERS[page]):
            return
        else:
            assert wire.decode(line.encode())  # an example of a message


def read_usage(line):
    command = line.split()[1]
    known = {f"-{flag}" for flag in FLAGS}
    if command in COMMANDS:
        known = {option for action in arguments.make_parser(command)._actions for option in action.option_strings}
    assert {*re.findall(r"(?<![\w-])--?[A-Za-z][\w-]*", line)} <= known


READERS = {
    "sh": read_shell,
    "console": read_console,
    "cron": read_cron,
    "python": read_python,
    "toml": read_toml,
    "yaml": read_yaml,
    "text": read_text,
}
BLOCKS = [
    pytest.param(str(page), language, text, id=f"{page}-{number}-{language}")
    for page in pages()
    for number, (language, text) in enumerate(fences((ROOT / page).read_text())[0])
]


@pytest.mark.parametrize(("page", "language", "text"), BLOCKS)
def test_every_block_is_accepted_by_what_reads_it(page, language, text):
    READERS[language](page, text)


PLAY = "[{{name: p, hosts: all, tasks: [{{name: t, {}}}]}}]"


@pytest.mark.parametrize(
    ("language", "mistake"),
    [
        ("sh", "if true; then"),
        ("cron", '0 2 * * *  echo "$(date +%F)"'),
        ("cron", "0 25 * * *  true"),
        ("cron", "0 2 * *  true"),
        ("python", "def"),
        ("toml", "[verbs.deploy]\nconcurency = 1\n"),
        ("yaml", "- alert: A\n  expr: up == 0\n"),
        ("yaml", PLAY.format("copy: {src: a}")),
        ("yaml", PLAY.format("ansible.builtin.copy: {src: a}, notify: Reload")),
        ("yaml", PLAY.format("ansible.builtin.copy: {src: '{{ versoin }}'}")),
        ("text", "remaphore run [--no-such-option]"),
        ("text", "anything"),
    ],
)
def test_a_mistake_in_a_block_is_found(language, mistake):
    with pytest.raises((AssertionError, SyntaxError, TypeError, RemaphoreError)):
        READERS[language]("docs/x.md", mistake)


def blocks_of(page, language):
    return [text for found, text in fences((ROOT / page).read_text())[0] if found == language]


@pytest.fixture
def programs(tmp_path):
    """Return a directory with the programs of the crontabs, which note how they were called."""

    def write(name, line):
        path = tmp_path / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> "$HOME/called"\n{line}\n')
        path.chmod(0o755)

    for name in ("backup", "report", "remaphore"):
        write(name, "echo noise >&2; exit ${FAILS:-0}" if name == "remaphore" else "")
    return tmp_path


def test_the_crontabs_do_under_cron_what_the_page_says(programs):
    before, first, one_of_several, watch = blocks_of("docs/howto/cron.md", "cron")
    for text in (before, first):
        for job in crontab.jobs(text):
            assert job.run(programs).returncode == 0
    called = (programs / "called").read_text().splitlines()
    assert called[:-1] == ["backup ", "report ", "backup "]
    assert re.fullmatch(r"remaphore send --verb backed-up \d{4}-\d\d-\d\d", called[-1])
    (job,) = crontab.jobs(one_of_several)
    assert job.run(programs).returncode == 0
    line = f"remaphore lock nightly --wait 40s -E 0 -- sh -c {programs}/backup 2>&1; sleep 90"
    assert (programs / "called").read_text().splitlines()[-1] == line
    (job,) = crontab.jobs(watch)
    assert job.run(programs).stdout == job.run(programs).stderr == ""  # cron mails what is printed
    assert (programs / "called").read_text().splitlines()[-1].startswith("remaphore receive --verb backed-up --once ")
    assert job.run(programs, FAILS="1").stdout == "no backup tonight\n"


async def test_the_alerts_name_metrics_labels_and_values_that_exist(tmp_path):
    (text,) = blocks_of("docs/running.md", "yaml")
    async with serving(tmp_path) as served:
        await served.send("bad", "fail")
        await served.handled(2)
        series = await served.scrape()
    names = {name for name, *_ in series}
    values = {value for _, *labels in series for value in labels}
    expressions = [rule["expr"] for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    assert {*re.findall(r"remaphore_\w+", " ".join(expressions))} <= names
    assert {*re.findall(r"[a-z]+", " ".join(re.findall(r'=~"([^"]*)"', " ".join(expressions))))} <= values


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool (Prometheus) is not installed")
def test_prometheus_accepts_the_alerts(tmp_path):
    (tmp_path / "rules.yml").write_text(blocks_of("docs/running.md", "yaml")[0])
    done = subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yml"], capture_output=True, check=False)
    assert done.returncode == 0, done
