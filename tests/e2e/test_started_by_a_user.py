"""Started by a user who is not root: all is that user's, with the same Redis users and closed files."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest
from redis.exceptions import NoPermissionError

from keymiss.local.processes import processes_of
from tests.e2e.test_start_stop import Local
from tests.servers import REPO, connect, module_path, open_folder

NOBODY = pwd.getpwnam("nobody")


def script(local: Local, name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(REPO / "scripts" / f"{name}.sh")],
        capture_output=True,
        text=True,
        env={**os.environ, **local.env, "HOME": "/nonexistent"},
        timeout=110,
        user=NOBODY.pw_uid,
        group=NOBODY.pw_gid,
        extra_groups=[],
    )


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_everything_is_the_callers() -> None:
    module_path()  # root's build
    reads = ["/usr/bin/test", "-x", REPO / "scripts/start.sh"]
    if subprocess.run(reads, user=NOBODY.pw_uid, group=NOBODY.pw_gid).returncode:
        pytest.skip("this checkout is closed to other users")
    local = Local(open_folder())
    shutil.chown(local.settings.var, NOBODY.pw_uid, NOBODY.pw_gid)
    try:
        started = script(local, "start")
        assert started.returncode == 0, started.stdout + started.stderr
        uids = {Path(f"/proc/{pid}").stat().st_uid for pid in processes_of(local.settings.var)}
        assert uids == {NOBODY.pw_uid}
        for path in local.settings.var.rglob("*"):
            assert path.lstat().st_uid == NOBODY.pw_uid, path
            assert path.is_symlink() or path.lstat().st_mode & 0o077 == 0, path
        with connect(local.settings.base_port) as client, pytest.raises(NoPermissionError):
            client.execute_command("RG.PYEXECUTE", "1")
        as_root = local.script("start")  # root takes over what another has started only after a stop
        assert as_root.returncode == 1
        assert "runs as another user" in as_root.stderr
        assert "Keymiss stopped" in script(local, "stop").stdout
    finally:
        local.supervisor.stop()
