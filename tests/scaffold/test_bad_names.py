"""What `hookline plugins new` refuses, each with what to do, and that it writes nothing then."""

from __future__ import annotations

from pathlib import Path

import pytest

from hookline.cli import main
from hookline.commands.plugins_new import KIND_NAMES
from hookline.plugins.kinds import SPEC_TYPES
from hookline.plugins.manager import load_plugins
from hookline.scaffold.kinds import KINDS
from hookline.scaffold.names import PluginNames
from hookline.scaffold.shipped import SHIPPED_OFFERS, SHIPPED_PLUGINS
from tests.factories.distributions import hook, install, only

ROOT = Path(__file__).parents[2]
FAST = hook("schedule_policies", '[SchedulePolicySpec(name="fast", target="PACKAGE.policy:Fast")]')


class Terminal:
    """Runs `hookline plugins new` in a folder of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self._capsys = capsys
        self.folder = folder

    def new(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, standard output, standard error."""
        with pytest.raises(SystemExit) as info:
            main(["plugins", "new", *arguments])
        out, err = self._capsys.readouterr()
        assert isinstance(info.value.code, int)
        return info.value.code, out, err

    def refused(self, *arguments: str) -> str:
        """The message of a refusal that wrote nothing."""
        before = sorted(self.folder.rglob("*"))
        status, out, err = self.new(*arguments)
        assert (status, out) == (1, "")
        assert sorted(self.folder.rglob("*")) == before
        assert err.startswith("error: ")
        return err.removeprefix("error: ").rstrip("\n")


@pytest.fixture
def terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Terminal:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Terminal(capsys, folder)


@pytest.mark.parametrize(
    ("name", "distribution", "package", "class_name"),
    [
        ("mine", "hookline-mine", "hookline_mine", "Mine"),
        ("my-policy", "hookline-my-policy", "hookline_my_policy", "MyPolicy"),
        ("my_policy2", "hookline-my-policy2", "hookline_my_policy2", "MyPolicy2"),
    ],
)
def test_all_names_follow_from_one(name: str, distribution: str, package: str, class_name: str) -> None:
    names = PluginNames(name=name)
    assert (names.distribution, names.package, names.class_name) == (distribution, package, class_name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("My_Policy", "'My_Policy' cannot name a distribution and a package; did you mean 'my-policy'?"),
        ("a--b", "'a--b' cannot name a distribution and a package; did you mean 'a-b'?"),
        ("3fast", "'3fast' cannot name a distribution and a package; did you mean 'fast'?"),
        ("schön", "'schön' cannot name a distribution and a package"),
        ("..", "'..' cannot name a distribution and a package (lower-case letters and digits"),
        ("", "'' cannot name a distribution and a package"),
        ("a/b", "'a/b' cannot name a distribution and a package; did you mean 'a-b'?"),
        ("class", "'class' is a keyword of Python, which no class or module can be called; add a word to it"),
        ("none", "'none' is a keyword of Python"),
        ("auto", "'auto' has a meaning of its own in settings that name an offer; choose another name"),
        ("hookline-fast", "the distribution gets the prefix 'hookline-' by itself; name the plugin 'fast'"),
        ("hookline_fast", "the distribution gets the prefix 'hookline-' by itself; name the plugin 'fast'"),
        ("schedule-policy", "from the name 'schedule-policy' follows the class name 'SchedulePolicy', which "),
    ],
)
def test_a_name_that_is_not_valid_says_what_is(terminal: Terminal, name: str, message: str) -> None:
    assert terminal.refused(name, "--kind", "policy").startswith(message)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        # The plugin's name, however it is written.
        ("so-fast", "the name 'so-fast' is taken: fake-so_fast 1.0 is installed here and provides a plugin 'so_fast'"),
        # What it offers.
        ("fast", "the name 'fast' is taken: fake-so_fast 1.0 offers schedule_policies 'fast'; choose another name"),
        # A plugin that is broken has its name too.
        ("bad", "the name 'bad' is taken: fake-bad 1.0 is installed here"),
        # Hookline's own names are taken where its distributions are not installed.
        ("fcfs", "the name 'fcfs' is taken: Hookline ships an offer of that name (schedule_policies)"),
        ("kernels", "the name 'kernels' is taken: Hookline ships a plugin of that name, in hookline-kernels"),
    ],
)
def test_a_name_that_is_taken_says_by_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: Terminal, name: str, message: str
) -> None:
    install(tmp_path, "so_fast", FAST)
    install(tmp_path, "bad", preamble="raise ImportError('no libfoo')")
    only(monkeypatch, [tmp_path])
    assert terminal.refused(name, "--kind", "policy").startswith(message)


def test_a_distribution_that_is_no_plugin_has_its_name_too(terminal: Terminal) -> None:
    message = terminal.refused("core", "--kind", "policy")
    assert message.startswith("the name 'core' is taken: the distribution hookline-core ")
    assert message.endswith("is installed here; choose another name, or uninstall it")


def test_the_name_of_an_offer_of_another_kind_is_free(terminal: Terminal) -> None:
    assert terminal.new("fcfs", "--kind", "policy")[0] == 1
    assert terminal.new("xgrammar", "--kind", "policy")[0] == 0


@pytest.mark.parametrize(
    ("kind", "meant"),
    [("polcy", "policy"), ("schedule_policies", "policy"), ("attention-backend", "attention"), ("ops_set", "ops")],
)
def test_an_unknown_kind_says_which_is_meant(terminal: Terminal, kind: str, meant: str) -> None:
    message = terminal.refused("mine", "--kind", kind)
    assert message.startswith(f"unknown kind of plugin '{kind}'; did you mean '{meant}'? (known: api, attention, ")


def test_a_missing_kind_is_a_wrong_command_line(terminal: Terminal) -> None:
    status, _, error = terminal.new("mine")
    assert status == 2
    assert "Missing option '--kind'" in error


def test_a_folder_that_is_not_empty_is_left_alone(terminal: Terminal) -> None:
    (terminal.folder / "hookline-mine").mkdir()
    (terminal.folder / "hookline-mine" / "notes.txt").write_text("mine")
    message = terminal.refused("mine", "--kind", "policy")
    assert message.startswith("the folder 'hookline-mine' is there and not empty (notes.txt); nothing was written.")
    assert message.endswith("or name another folder with --directory")


def test_an_empty_folder_and_a_new_repository_will_do(terminal: Terminal) -> None:
    (terminal.folder / "hookline-mine" / ".git").mkdir(parents=True)
    assert terminal.new("mine", "--kind", "policy")[0] == 0
    assert (terminal.folder / "hookline-mine" / "pyproject.toml").is_file()


def test_a_file_in_place_of_the_folder(terminal: Terminal) -> None:
    (terminal.folder / "there").write_text("")
    message = terminal.refused("mine", "--kind", "policy", "--directory", "there")
    assert message == "'there' is a file; remove it, or name another folder with --directory"


def test_a_folder_that_cannot_be_written(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    message = terminal.refused("mine", "--kind", "policy")
    assert message.startswith("cannot write 'hookline-mine': Permission denied; name a folder that you may write to")


def test_what_follows_is_told_as_commands_that_can_be_pasted(terminal: Terminal) -> None:
    status, out, _ = terminal.new("mine", "--kind", "policy", "--directory", "a folder/mine")
    assert status == 0
    assert out.splitlines() == [
        "wrote a schedule policy 'mine' into a folder/mine. Next, install and test it:",
        "  cd 'a folder/mine'",
        "  pip install -e '.[test]'",
        "  pytest",
        "README.md says how to serve with it, and what to edit.",
    ]


def test_help_names_every_kind() -> None:
    assert KIND_NAMES.split(", ") == list(KINDS)


def test_every_name_of_the_members_is_known_as_shipped() -> None:
    registry = load_plugins(source_tree=[ROOT / "plugins"], strict=False)
    assert {plugin.name for plugin in registry.plugins} == set(SHIPPED_PLUGINS)
    for kind in SPEC_TYPES:
        assert {offer.spec.name for offer in registry.of_kind(kind)} <= set(SHIPPED_OFFERS[kind]), kind
