"""The README's first program, as a stranger types it in."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.conftest import RedisServer

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "README.md").read_text()


def test_the_first_program_prints_what_the_readme_says(redis_server: RedisServer, tmp_path: Path) -> None:
    """shop.py as it stands, the workers by the line below it, and the line that submits."""
    (program,) = re.findall(r"^```python\n(# shop\.py\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "shop.py").write_text(program)
    (run,) = re.findall(r"^flowq (run shop:app .*) &", PAGE, re.MULTILINE)
    ((script, says),) = re.findall(r"^python (shop\.py) +# (.*)$", PAGE, re.MULTILINE)
    env = {
        **os.environ,
        "FLOWQ_URL": redis_server.url,
        "FLOWQ_NAMESPACE": tmp_path.name,
        "FLOWQ_RUN_DIR": str(tmp_path),
    }
    env["PYTHONPATH"] = os.pathsep.join(sys.path)

    workers = subprocess.Popen([sys.executable, "-m", "flowq", *shlex.split(run)], cwd=tmp_path, env=env)
    try:
        out = subprocess.run(
            [sys.executable, script],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        workers.terminate()
        ended = workers.wait(30)

    assert (out.stdout, ended) == (f"{says}\n", 0), out.stderr
