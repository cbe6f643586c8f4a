"""The recipes of docs/howto/plugins.md, built as wheels, do in a daemon what the page says."""

import asyncio
import sqlite3
import stat
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.harness.waiting import until
from tests.plugins.recipes import SOURCES, TABLES

pytestmark = pytest.mark.xdist_group("third party")


class SlowServer(ThreadingHTTPServer):
    """Has *lines*, as they arrive, and answers none of them until *answer* is set, the first one with garbage."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lines = []
        self.answer = threading.Event()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.lines.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.server.answer.wait()
        if len(self.server.lines) == 1:
            self.wfile.write(b"not HTTP\r\n\r\n")
            return
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_words):
        """Print nothing."""


@pytest.fixture
def server():
    with SlowServer() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.answer.set()
        server.shutdown()
        thread.join()


def enabled(**changed):
    """Return the tables of the page, with some of them *changed*."""
    tables = TABLES | changed
    return f"[plugins]\nenable = {sorted(tables)}\n".replace("'", '"') + "".join(tables.values())


def write_handler(fleet, exit_code):
    handler = fleet.folder / "hooks.d" / "deploy" / "10-deploy"
    handler.parent.mkdir(parents=True)
    handler.write_text(f"#!/bin/sh\nexit {exit_code}\n")
    handler.chmod(0o755)


def deploy(fleet, name):
    words = ("--to", "com.example.two", "--verb", "deploy", "--id", name, "--timeout", "20s")
    return fleet.run("request", "-c", fleet.config("one"), *words).stdout


async def test_a_history_is_kept_a_slow_server_delays_nothing_and_a_deployment_is_announced(fleet, start, server):
    write_handler(fleet, 3)
    webhook = f'[plugins.webhook]\nurl = "http://127.0.0.1:{server.server_port}/"\ntimeout = "1m"\n'
    announce = TABLES["announce"].replace("com.example.web.**", "com.example.one")
    daemon = start(enabled(webhook=webhook, announce=announce))
    script = fleet.script(f'echo "$@" > {fleet.folder}/announced\n')
    waiting = fleet.start("receive", "-c", fleet.config("one"), "--once", "--verb", "deployed", script)
    assert await asyncio.to_thread(deploy, fleet, "v1") == "com.example.two,3,\n"
    await until(lambda: server.lines)  # it was posted, and the server does not answer
    assert await asyncio.to_thread(deploy, fleet, "v2") == "com.example.two,3,\n"
    assert server.lines == ["deploy of com.example.one: 3"]
    server.answer.set()
    await until(lambda: len(server.lines) == 2)
    assert await asyncio.to_thread(waiting.finish) == (0, "")
    assert (fleet.folder / "announced").read_text() == "deployed 3\n"
    (folder,) = (fleet.folder / "state").glob("**/plugins/history")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    expected = [("deploy", "com.example.one", "v1", 3), ("deploy", "com.example.one", "v2", 3)]
    await until(lambda: rows(folder / "history.sqlite") == expected)
    assert await asyncio.to_thread(daemon.stop) == (0, "")
    assert [line for line in daemon.lines if "plugin_failed" in line] == []


def rows(file):
    with closing(sqlite3.connect(file)) as database:
        return database.execute("SELECT verb, peer, id, exit_code FROM handled ORDER BY id").fetchall()


@pytest.mark.parametrize(
    ("name", "table", "error", "hint"),
    [
        ("history", "keep = 90\n", "keep: must be a string, not an integer", 'write keep = "30s"'),
        (
            "webhook",
            'url = "chat.example.com"\n',
            "url: must begin with http:// or https://",
            "change plugins.webhook.url",
        ),
        ("webhook", 'url = "http://x"\npost = "failure"\n', "post: unknown value", 'did you mean "failures"?'),
        ("announce", 'too = "**"\n', "too: unknown key", "did you mean to?"),
        ("announce", "", "to: missing", 'add to = "..." to [plugins.announce]'),
    ],
)
def test_a_wrong_setting_is_named_with_its_file_and_key(fleet, third_party, name, table, error, hint):
    config = fleet.config("two", extra=enabled(**{name: f"[plugins.{name}]\n{table}"}))
    checked = third_party.run("remaphore", "plugins", "-c", config, cwd=fleet.folder)
    assert checked.returncode == 1
    (line,) = [line for line in checked.stdout.splitlines() if line.startswith(f"{name} ")]
    assert f"FAILED: {config}: plugins.{name}.{error}; hint: {hint}" in line


def test_the_page_has_a_table_for_each_plugin():
    assert {"history", "webhook", "announce"} == SOURCES.keys() == TABLES.keys()
