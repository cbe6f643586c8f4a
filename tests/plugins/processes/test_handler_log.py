"""At debug level the log has the start and the end of each handler and script, with the names of its message."""

import structlog

from remaphore_plugins.script import Script
from tests.harness.programs import handled, hooks_plugin, make_hooks, message, write_script


def runs(logged):
    return [
        (line["event"], line["handler"].rpartition("/")[2], line.get("exit_code"))
        for line in logged
        if line["event"].startswith("handler_")
    ]


async def test_each_handler_has_a_start_and_an_end_with_its_own_exit_code(tmp_path):
    hooks = make_hooks(tmp_path, _1="exit 3", _2="kill -9 $$")
    write_script(hooks / "deploy" / "3", "", first="#!/no/such/interpreter\n")
    with structlog.testing.capture_logs() as logged:
        await handled(hooks_plugin(hooks))
    assert runs(logged) == [
        *(("handler_started", "1", None), ("handler_ended", "1", 3)),
        *(("handler_started", "2", None), ("handler_ended", "2", 137)),
        *(("handler_started", "3", None), ("handler_ended", "3", -1)),
    ]
    lines = [line for line in logged if line["event"].startswith("handler_")]
    assert {line["log_level"] for line in lines} == {"debug"}
    for line in lines:
        assert message().log_fields.items() <= line.items()
    assert all(line["seconds"] >= 0 for line in lines if line["event"] == "handler_ended")


async def test_a_script_has_the_same_lines(tmp_path):
    plugin, script = Script(), write_script(tmp_path / "go", "exit 4")
    plugin.remaphore_configure({"argv": (script, "word")})
    with structlog.testing.capture_logs() as logged:
        await plugin.remaphore_message(message(payload=b"hidden"))
    assert runs(logged) == [("handler_started", "go", None), ("handler_ended", "go", 4)]
    assert "hidden" not in str(logged)
