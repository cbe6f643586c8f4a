"""Go's flag syntax, case by case after the grammar of Go's package `flag`."""

import pytest

from remaphore.cli.legacy.goflags import Kind, parse
from remaphore.errors import UsageError

FLAGS = {"o": Kind.BOOL, "d": Kind.BOOL, "s": Kind.BOOL, "u": Kind.TEXT, "D": Kind.TEXT, "t": Kind.DURATION}
SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("typed", "values", "rest"),
    [
        ([], {}, []),
        (["-o"], {"o": True}, []),
        (["--o"], {"o": True}, []),
        (["-o=true", "--d=F"], {"o": True, "d": False}, []),
        (["-o=1", "-d=0"], {"o": True, "d": False}, []),
        (["-o", "true"], {"o": True}, ["true"]),
        (["-u", "id"], {"u": "id"}, []),
        (["-u=id"], {"u": "id"}, []),
        (["--u=a=b"], {"u": "a=b"}, []),
        (["-u="], {"u": ""}, []),
        (["-u", ""], {"u": ""}, []),
        (["-u", "-o"], {"u": "-o"}, []),
        (["-u", "--"], {"u": "--"}, []),
        (["-t", "5s"], {"t": 5 * SECOND}, []),
        (["--t=5s"], {"t": 5 * SECOND}, []),
        (["-t", "-5s"], {"t": -5 * SECOND}, []),
        (["-u", "a", "-u", "b"], {"u": "b"}, []),
        (["-s", "word", "-o"], {"s": True}, ["word", "-o"]),
        (["-s", "--", "-o"], {"s": True}, ["-o"]),
        (["-s", "-", "-o"], {"s": True}, ["-", "-o"]),
        (["--"], {}, []),
        (["--", "--"], {}, ["--"]),
        (["-D", "com.*"], {"D": "com.*"}, []),
        (["word"], {}, ["word"]),
        (["", "-o"], {}, ["", "-o"]),
    ],
)
def test_arguments_are_parsed_as_by_go(typed, values, rest):
    assert parse(typed, FLAGS) == (values, rest)


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["-x"], "flag provided but not defined: -x"),
        (["-so"], "flag provided but not defined: -so"),
        (["-t5s"], "flag provided but not defined: -t5s"),
        (["---o"], "bad flag syntax: ---o"),
        (["-=x"], "bad flag syntax: -=x"),
        (["--=x"], "bad flag syntax: --=x"),
        (["-u"], "flag needs an argument: -u"),
        (["-t"], "flag needs an argument: -t"),
        (["-o=yes"], "invalid boolean value 'yes' for -o"),
        (["-o="], "invalid boolean value '' for -o"),
        (["-t", "5"], "invalid value '5' for flag -t: missing unit in duration '5'"),
        (["-t="], "invalid value '' for flag -t: invalid duration ''"),
    ],
)
def test_what_go_rejects_is_a_usage_error(typed, message):
    with pytest.raises(UsageError) as caught:
        parse(typed, FLAGS)
    assert str(caught.value) == message
    assert caught.value.hint
