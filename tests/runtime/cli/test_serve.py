"""`fic-runtime serve` before it serves; the server itself is tested in tests/runtime/server."""

import re
import subprocess
import sys

WITHOUT = """
import sys
sys.modules[sys.argv.pop(1)] = None
from fic_runtime.cli import main
main()
"""


def test_without_the_extra_it_says_how_to_install_it(golden):
    # In a program of its own: here another test may have imported the packages already.
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT, "starlette", "serve", golden],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "fic-runtime: the server needs the package starlette; install it with "
        "`pip install 'fic-runtime[serve]'`\n"
    )


def test_the_help_tells_the_defaults_that_hold(run):
    _, out, _ = run("serve", "--help")
    text = " ".join(out.split())
    for number in (20 * 2**20, 2**25, 2**28, 512, 16):
        assert re.search(rf"\(default: [^)]*\b{number}\)", text), number


def test_a_port_that_is_none_is_wrong_usage(run, golden):
    for port in ("65536", "-1", "http"):
        code, _, err = run("serve", golden, "--port", port)
        assert code == 2
        assert "is not a port" in err
