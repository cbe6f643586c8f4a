"""The daemon as an administrator runs it: handlers by verb, reload, stop, systemd."""

import asyncio
import json
import signal
import socket
import time
from pathlib import Path

import pytest

import remaphore
from tests.harness.fleet import environment
from tests.harness.plugins import installer
from tests.harness.waiting import until


@pytest.fixture
def hooks(fleet):
    """Writes handlers: hooks(verb, name, text)."""

    def write(verb, name, text, mode=0o755):
        folder = fleet.folder / "hooks.d" / verb
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(mode)
        return path

    # Every directory on the way must be its owner's alone to be trusted.
    for folder in (fleet.folder, fleet.folder.parent):
        folder.chmod(0o755)
    return write


def start(fleet, config, *words, **options):
    state = f'state_dir = "{fleet.folder}/state"\n'
    if config.suffix == ".toml" and "state_dir" not in config.read_text():
        config.write_text(state + config.read_text())
    return fleet.start("run", "-c", config, "--hooks", fleet.folder / "hooks.d", *words, **options)


def ask(fleet, nodes, verb, *words, to="com.example.two", timeout="20s"):
    return fleet.run("-c", nodes["one"], "-r", "-D", to, "-v", verb, "-t", timeout, *words)


def test_dropping_an_executable_into_the_directory_of_a_verb_is_all(fleet, nodes, hooks):
    daemon = start(fleet, nodes["two"])
    assert ask(fleet, nodes, "deploy", "v42").stdout == "com.example.two,127,no handler\n"
    hooks("deploy", "10-say", 'echo "deploying $2 for $REMAPHORE_VERB"; cat')
    shown = ask(fleet, nodes, "deploy", "v42").stdout
    assert "com.example.two,0,deploying v42 for deploy\nv42\n" in shown
    assert daemon.stop() == (0, "")


def test_a_legacy_configuration_works_too(fleet, hooks):
    hooks("status", "10-say", "echo fine")
    config = fleet.config("two", form="conf")
    daemon = start(fleet, config, env=environment(STATE_DIRECTORY=str(fleet.folder / "state")))
    asked = fleet.run(
        "-c", fleet.config("one", form="conf"), "-r", "-v", "status", "-D", "com.example.two", "-t", "20s"
    )
    assert asked.stdout == "com.example.two,0,fine\n"
    assert daemon.stop()[0] == 0


def test_a_second_daemon_of_the_same_name_is_refused_and_another_name_is_not(fleet, nodes):
    daemon = start(fleet, nodes["two"])
    second = fleet.run("run", "-c", nodes["two"])
    assert second.returncode == 3
    assert f"pid {daemon.popen.pid}" in second.stderr
    assert "--instance" in second.stderr
    start(fleet, nodes["two"], "--instance", "other").stop()


def test_check_says_whether_it_would_start(fleet, nodes):
    assert fleet.run("run", "-c", nodes["two"], "--check").returncode == 0
    broken = fleet.config("three", extra="[plugins]\nenable = ['nosuch']\n")
    done = fleet.run("run", "-c", broken, "--check")
    assert done.returncode == 2
    assert "'nosuch' is not installed" in done.stderr


def test_what_another_user_could_have_changed_stops_the_daemon_and_is_a_warning_elsewhere(fleet, nodes):
    config, state = nodes["two"], fleet.folder / "var" / "state"
    state.parent.mkdir()
    config.write_text(f'state_dir = "{state}"\n' + config.read_text())
    config.chmod(0o666)
    for words in (("run",), ("run", "--check")):
        done = fleet.run(*words, "-c", config)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"remaphore: error: unsafe configuration: {config}: writable by others\n" in done.stderr
        assert f"remaphore: hint: look at {config}" in done.stderr
    listed = fleet.run("peer", "list", "-c", config)
    assert listed.returncode == 0
    assert listed.stderr.count(f"remaphore: warning: {config}: writable by others\n") == 1
    config.chmod(0o644)
    assert fleet.run("peer", "list", "-c", config).stderr == ""  # cron would mail it
    state.parent.chmod(0o777)
    for words in (("run",), ("run", "--check")):
        done = fleet.run(*words, "-c", config)
        assert done.returncode == 3
        assert f"error: state directory {state}/main: {state.parent}: writable by others\n" in done.stderr


def alive(folder):
    """Return the pids, of those that name the files in *folder*, that exist."""
    return [path.name for path in folder.iterdir() if Path("/proc", path.name).exists()]


async def test_term_in_the_middle_of_50_runs_answers_every_request_and_leaves_no_child(fleet, nodes, hooks):
    running = fleet.folder / "running"
    running.mkdir()
    hooks("slow", "10-sleep", f"touch {running}/$$; exec sleep 600")
    config = fleet.config("two", extra="[verbs.slow]\nconcurrency = 20\nqueue = 50\n")
    daemon = await asyncio.to_thread(start, fleet, config)

    async def exit_code(node, number):
        async with node.request("slow", to="com.example.two", payload=str(number), timeout=60) as exchange:
            return [reply.exit_code async for reply in exchange]

    async with remaphore.connect(str(nodes["one"])) as node, asyncio.TaskGroup() as group:
        asking = [group.create_task(exit_code(node, number)) for number in range(50)]
        await until(
            lambda: len(list(running.iterdir())) >= 20 and sum("received" in line for line in daemon.lines) >= 50,
            limit=60,
        )
        # Within seconds, not the 600 that they would sleep; a second signal meanwhile changes nothing.
        daemon.popen.terminate()
        await until(lambda: any(task.done() for task in asking))
        assert (await asyncio.to_thread(daemon.stop))[0] == 0
    assert sorted(task.result() for task in asking) == [[75]] * 30 + [[143]] * 20
    assert alive(running) == []


def test_a_reload_applies_new_peers_and_rejects_an_invalid_file(fleet, nodes, hooks):
    hooks("status", "10-say", "echo fine")
    config = fleet.config("two", peers=["three"])
    daemon = start(fleet, config)
    assert ask(fleet, nodes, "status", timeout="3s").returncode == 1
    good = config.read_text()
    config.write_text(good + "nonsense = 1\n")
    daemon.popen.send_signal(signal.SIGHUP)
    daemon.wait_for("reload_rejected")
    config.write_text(good + "[plugins.log]\ncolour = true\n")
    daemon.popen.send_signal(signal.SIGHUP)
    assert "reload_rejected" in daemon.wait_for(": plugins.log.colour: unknown key")
    config.write_text(good)
    config.chmod(0o666)
    daemon.popen.send_signal(signal.SIGHUP)
    daemon.wait_for("unsafe configuration: ")
    config.chmod(0o600)
    key = fleet.key_file("two")
    key.rename(f"{key}.moved")
    daemon.popen.send_signal(signal.SIGHUP)
    daemon.wait_for(f"reload_rejected error={key}: private key")
    Path(f"{key}.moved").rename(key)
    config.write_text(f'state_dir = "{fleet.folder}/state"\n' + fleet.config("two").read_text())
    daemon.popen.send_signal(signal.SIGHUP)
    daemon.wait_for("reloaded peers=2")
    assert ask(fleet, nodes, "status").stdout == "com.example.two,0,fine\n"
    assert daemon.stop()[0] == 0


def test_systemd_is_notified_of_every_state(fleet, nodes):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(fleet.folder / "notify"))
        manager.settimeout(20)
        env = environment(NOTIFY_SOCKET=str(fleet.folder / "notify"), WATCHDOG_USEC="200000")
        daemon = start(fleet, nodes["two"], env=env)
        states = []

        def hear(*wanted):
            states.clear()
            while not set(wanted) <= {line for state in states for line in state}:
                states.append(manager.recv(1000).decode().split("\n"))
                assert len(states) < 100, states

        hear("READY=1", "WATCHDOG=1", "STATUS=receiving as com.example.two")
        assert states[0] == ["READY=1", "STATUS=waiting for the broker"]
        daemon.popen.send_signal(signal.SIGHUP)
        hear("RELOADING=1", "READY=1", "STATUS=receiving as com.example.two")
        hear("WATCHDOG=1")
        daemon.popen.terminate()
        hear("STOPPING=1")
        assert daemon.finish()[0] == 0


def test_hooks_lists_what_would_run_and_what_not_and_why(fleet, nodes, hooks):
    first, second = hooks("deploy", "10-fetch", "true"), hooks("deploy", "20-go", "true")
    hooks("deploy", "30-old.sh", "true")
    hooks("deploy", "40-off", "true", mode=0o644)
    bad = hooks("deploy", "50-bad", "true")
    bad.write_text(bad.read_text().replace("\n", "\r\n", 1))
    listed = fleet.run("hooks", "deploy", "-c", nodes["two"], "--hooks", fleet.folder / "hooks.d")
    assert (listed.returncode, listed.stderr) == (1, "")
    lines = listed.stdout.splitlines()
    assert lines[0] == "deploy:"
    assert [line.split()[0] for line in lines[1:]] == ["run", "run", "fail", "skip", "skip"]
    assert str(first) in lines[1]
    assert str(second) in lines[2]
    assert "its lines end in CR LF" in lines[3]
    assert "chmod +x" in lines[5]
    rows = fleet.run("hooks", "deploy", "--json", "-c", nodes["two"], "--hooks", fleet.folder / "hooks.d").stdout
    assert [json.loads(row)["action"] for row in rows.splitlines()] == ["run", "run", "fail", "skip", "skip"]
    only = hooks("note", "10-go", "true")
    nodes["two"].write_text(nodes["two"].read_text() + '\n[verbs.note]\npayload = "stdin"\n')
    listed = fleet.run("hooks", "note", "-c", nodes["two"], "--hooks", fleet.folder / "hooks.d")
    assert listed.stdout == f"note:\n  run    {only} note (payload on stdin only)\n"


def test_each_problem_of_a_handler_is_reported_once_by_each_command(fleet, nodes, hooks):
    hooks("deploy", "10-none", "true").write_text("echo no first line\n")
    hooks("status", "10-off", "true", mode=0o644)
    hooks("Upper.Case", "10-go", "true")
    problems = ("does not begin with #!", "not executable", "not a verb: use 1 to 64")
    options = ("-c", nodes["two"], "--hooks", fleet.folder / "hooks.d", "--hooks", fleet.folder / "missing")
    done = [fleet.run(*words, *options) for words in (("hooks",), ("check",), ("run", "--check"))]
    explained = fleet.run("explain", "--from", "com.example.one", "--verb", "deploy", *options)
    for each in done:
        assert [(each.stdout + each.stderr).count(problem) for problem in problems] == [1, 1, 1], each
    assert [each.returncode for each in done] == [1, 1, 0]
    assert [(explained.stdout + explained.stderr).count(problem) for problem in problems] == [1, 0, 0]
    warning = f"remaphore: warning: {fleet.folder}/missing: no such directory\n"
    assert done[0].stderr.startswith(warning)
    assert "remaphore: hint: " in done[0].stderr


def test_unsafe_handlers_are_listed_with_a_hint_and_rejected(fleet, nodes, hooks):
    path = hooks("deploy", "10-fetch", "true")
    path.chmod(0o777)
    listed = fleet.run("hooks", "-c", nodes["two"], "--hooks", fleet.folder / "hooks.d")
    assert listed.returncode == 1
    assert f"chmod go-w {path}" in listed.stdout
    daemon = start(fleet, nodes["two"])
    assert ask(fleet, nodes, "deploy").stdout.startswith("com.example.two,126,")
    assert daemon.stop()[0] == 0


@pytest.mark.parametrize("each", [30, pytest.param(100, marks=pytest.mark.long)])
def test_messages_over_10_verbs_with_one_that_sleeps(fleet, nodes, hooks, each):
    done = fleet.folder / "done"
    for number in range(10):
        pause = f"while [ ! -e {fleet.folder}/go ]; do sleep 0.05; done;" if number == 0 else ""
        hooks(f"verb{number}", "10-note", f'{pause} echo "$2" >> {done}{number}')
    config = fleet.config("two", extra="".join(f"[verbs.verb{number}]\nqueue = 200\n" for number in range(10)))
    daemon = start(fleet, config)
    send_many(nodes["one"], each)
    deadline = time.monotonic() + 60
    while sum(len(lines(f"{done}{number}")) for number in range(1, 10)) < 9 * each:
        assert time.monotonic() < deadline
    assert lines(f"{done}0") == []  # the tenth still sleeps in its first message: nothing waited for it
    (fleet.folder / "go").touch()
    while len(lines(f"{done}0")) < each:
        assert time.monotonic() < deadline
    for number in range(10):
        assert lines(f"{done}{number}") == [f"{count}" for count in range(each)]
    assert daemon.stop()[0] == 0
    assert f"received={10 * each} handled={10 * each}" in daemon.wait_for("stopped")


def lines(path):
    return Path(path).read_text().splitlines() if Path(path).exists() else []


def send_many(config, each):
    import asyncio

    import remaphore

    async def send():
        async with remaphore.connect(str(config)) as node:
            for count in range(each):
                for number in range(10):
                    await node.send(f"verb{number}", to="com.example.two", payload=str(count))

    asyncio.run(send())


def test_a_reload_that_enables_a_plugin_that_could_not_be_loaded_is_rejected(fleet, hooks, tmp_path, monkeypatch):
    hooks("status", "10-say", "echo fine")
    site = tmp_path / "site"
    site.mkdir()
    install = installer(site, monkeypatch)
    install("broken", "raise RuntimeError('half installed')")
    hook = "from remaphore import hookimpl\nclass Plugin:\n    @hookimpl\n    def remaphore_handled(self): ...\n"
    install("later", f"{hook}    def __init__(self):\n        print('made once')\n")
    config = fleet.config("two", peers=["three"])
    daemon = start(fleet, config, env=environment(PYTHONPATH=str(site)))
    good = config.read_text()
    more = fleet.config("two").read_text()

    def reload(text, words):
        daemon.lines.clear()
        config.write_text(text)
        daemon.popen.send_signal(signal.SIGHUP)
        return daemon.wait_for(words)

    state = good.partition("\n")[0]
    for name, words in (
        ("broken", "plugin 'broken' from remaphore-broken 1.5 cannot be loaded: RuntimeError: half installed"),
        ("nosuch", "plugin 'nosuch' is not installed"),
        ("later", "plugins.later.colour: unknown key"),
    ):
        table = "[plugins.later]\ncolour = 1\n" if name == "later" else ""
        line = reload(f'{state}\n{more}[plugins]\nenable = ["{name}"]\n{table}', "reload_rejected")
        assert words in line
    for _ in range(2):
        reload(f'{state}\n{more}[plugins]\nenable = ["later"]\n', "reloaded peers=2")
        assert any("restart_needed setting=plugins.enable" in line for line in daemon.lines)
        assert not any("made once" in line for line in daemon.lines)
    reload(good, "reloaded peers=1")
