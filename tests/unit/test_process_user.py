"""Started by root: who the processes run as, which files become theirs, what is copied for them."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from keymiss.environment import BadSetting
from keymiss.local.process_user import ProcessUser, process_user, user_problems
from keymiss.local.project_copy import copied_model, copy_project
from keymiss.local.var_folders import SHARED, THEIRS, make_folders
from keymiss.resources import PROJECT
from keymiss.settings import Settings
from tests.servers import open_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
NOBODY = pwd.getpwnam("nobody")
USER = ProcessUser("nobody", NOBODY.pw_uid, NOBODY.pw_gid)


@pytest.fixture
def settings() -> Settings:
    return Settings(var=open_folder() / "var", user="nobody")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def test_root_becomes_the_user_of_the_setting(settings: Settings) -> None:
    assert process_user(settings) == USER
    assert process_user(settings.model_copy(update={"user": "root"})) is None
    assert Settings.from_env({"KEYMISS_USER": "nobody"}).user == "nobody"
    assert Settings.from_env({}).user in ("keymiss", "nobody")
    with pytest.raises(BadSetting, match="KEYMISS_USER"):
        Settings.from_env({"KEYMISS_USER": "no-such-user"})


def test_a_closed_folder_is_said(settings: Settings) -> None:
    assert not [text for text in user_problems(settings, USER) if "cannot enter" in text]
    settings.var.parent.chmod(0o700)
    (found,) = (text for text in user_problems(settings, USER) if "cannot enter" in text)
    assert str(settings.var.parent) in found
    assert "KEYMISS_VAR" in found


def test_a_python_that_the_user_cannot_run_is_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = settings.var.parent / "python"
    shutil.copy("/bin/true", closed)
    closed.chmod(0o700)
    monkeypatch.setattr("keymiss.local.process_user.python", lambda: str(closed))
    (found,) = (text for text in user_problems(settings, USER) if str(closed) in text)
    assert "scripts/start.sh" in found


def test_a_port_that_only_root_may_have_is_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "first").write_text("1024\n")
    monkeypatch.setattr("keymiss.local.process_user.FIRST_OPEN_PORT", tmp_path / "first")
    found = user_problems(settings.model_copy(update={"https_port": 443}), USER)
    assert [text for text in found if "KEYMISS_HTTPS_PORT is 443" in text]


def test_folders_are_the_users_and_closed(settings: Settings) -> None:
    make_folders(settings, USER)
    for name in THEIRS:
        folder = settings.var / name
        assert (folder.stat().st_uid, mode(folder)) == (USER.uid, 0o700)
    for folder in (settings.var, *(settings.var / name for name in SHARED)):
        assert (folder.stat().st_uid, folder.stat().st_gid, mode(folder)) == (0, USER.gid, 0o750)


def test_what_root_left_becomes_the_users(settings: Settings) -> None:
    old = settings.data / "30001" / "appendonlydir"
    old.mkdir(parents=True)
    (old / "appendonly.aof.1.base.rdb").write_text("data")
    make_folders(settings, USER)
    for path in (settings.data, *settings.data.rglob("*")):
        assert (path.stat().st_uid, path.stat().st_mode & 0o077) == (USER.uid, 0), path


def test_what_is_linked_to_stays_as_it_is(settings: Settings) -> None:
    make_folders(settings, USER)
    outside = settings.var.parent / "outside"
    (outside / "folder").mkdir(parents=True)
    for name in ("by-link", "by-name", "folder/file"):
        (outside / name).write_text("of root")
        (outside / name).chmod(0o644)
    (settings.log / "link").symlink_to(outside / "by-link")
    (settings.log / "folder").symlink_to(outside / "folder")
    os.link(outside / "by-name", settings.log / "name")
    make_folders(settings, USER)
    for name in ("by-link", "by-name", "folder/file"):
        assert ((outside / name).stat().st_uid, mode(outside / name)) == (0, 0o644), name


def test_a_given_folder_keeps_its_mode(settings: Settings) -> None:
    settings.var.mkdir()
    settings.var.chmod(0o755)
    make_folders(settings, USER)
    assert (settings.var.stat().st_uid, mode(settings.var)) == (0, 0o755)


def test_the_copy_is_readable_by_the_user_and_only_roots_to_change(settings: Settings) -> None:
    make_folders(settings, USER)
    copy = copy_project(settings, USER.gid)
    for path in copy.rglob("*"):
        assert (path.stat().st_uid, path.stat().st_gid) == (0, USER.gid)
        assert mode(path) in ((0o750,) if path.is_dir() else (0o640, 0o750)), path
    for name in ("keymiss/cli/main.py", "acl/users.acl.template", "nginx/page/index.html"):
        assert (copy / name).read_bytes() == (PROJECT / name).read_bytes()
    assert (copy / copied_model(settings) / "tokenizer.json").is_file()
    assert not list(copy.rglob("__pycache__"))
    imported = subprocess.run(
        ["/usr/bin/test", "-r", str(copy / "keymiss/worker/lifecycle.py")], user=USER.uid, group=USER.gid
    )
    assert imported.returncode == 0


def test_the_copy_is_brought_up_to_date(settings: Settings) -> None:
    make_folders(settings, USER)
    copy = copy_project(settings, USER.gid)
    kept, changed = copy / "keymiss/keys.py", copy / "keymiss/settings.py"
    inode = kept.stat().st_ino
    changed.write_text("# older\n")
    (copy / "keymiss/gone").mkdir()
    (copy / "keymiss/gone/module.py").write_text("# no longer there\n")
    copy_project(settings, USER.gid)
    assert kept.stat().st_ino == inode
    assert changed.read_bytes() == (PROJECT / "keymiss/settings.py").read_bytes()
    assert not (copy / "keymiss/gone").exists()
