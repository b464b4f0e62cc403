"""Where the bundled hub keeps its tasks and its token."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from arbprov.cli.state_folder import find_state_folder, make_state_folder, shorten_home
from arbprov.errors import ConfigurationError


@pytest.mark.parametrize(
    ("environ", "platform", "folder"),
    [
        ({}, "linux", "~/.local/state/arbprov"),
        ({"XDG_STATE_HOME": "/var/state"}, "linux", "/var/state/arbprov"),
        # The specification has programs ignore it.
        ({"XDG_STATE_HOME": "relative"}, "linux", "~/.local/state/arbprov"),
        ({"XDG_STATE_HOME": "/var/state"}, "darwin", "~/Library/Application Support/arbprov"),
        ({"LOCALAPPDATA": "/local"}, "win32", "/local/arbprov"),
        ({}, "win32", "~/AppData/Local/arbprov"),
    ],
)
def test_each_platform_has_its_folder(environ, platform, folder):
    assert find_state_folder(environ, platform) == Path(folder).expanduser()


def test_a_user_without_a_home_folder_is_told_what_to_set(monkeypatch):
    def fail():
        raise RuntimeError

    monkeypatch.setattr(Path, "home", fail)
    with pytest.raises(ConfigurationError, match="set HOME, or the hub's --store and --token-file"):
        find_state_folder({}, "linux")


def test_only_the_user_may_enter_the_folder(state_folder):
    assert make_state_folder() == make_state_folder() == state_folder
    assert stat.S_IMODE(state_folder.stat().st_mode) == 0o700


def test_a_folder_that_can_not_be_made_is_bad_configuration(state_folder):
    state_folder.parent.write_text("a file in its place")
    with pytest.raises(ConfigurationError, match=r"can't make the folder .*/arbprov for the hub's"):
        make_state_folder()


def test_a_path_in_the_home_folder_is_shown_with_a_tilde():
    home = Path.home()
    assert shorten_home(home / "state" / "hub-token") == "~/state/hub-token"
    assert shorten_home(Path(f"{home}s/hub-token")) == f"{home}s/hub-token"
    # A shell would not replace a tilde in quotes.
    assert shorten_home(home / "a b") == f"'{home}/a b'"
