"""Output appears whole or not at all, and replaces only earlier output."""

import json
import os
import subprocess
import sys

import pytest

from tfrs_negatives import _folder_exchange, _publish
from tfrs_negatives.cli.command_error import CommandError
from tfrs_negatives.cli.output_folder import OutputFolder

COMMAND = "tfrs-negatives train"
WHOLE = ["out", "out/manifest.json", "out/text"]


def write(path, text, *, event=None, command=COMMAND):
    """One run of a command that writes a text; returns where it went."""
    with OutputFolder(path, command) as output:
        with open(os.path.join(output.folder, "text"), "w") as file:
            file.write(text)
        if event:
            event()
    return output.path


def everything(path):
    return sorted(p.relative_to(path).as_posix() for p in path.rglob("*"))


@pytest.fixture(params=["at once", "by three renames"])
def exchange(request, monkeypatch):
    """Both ways to exchange two folders."""
    if request.param == "by three renames":
        monkeypatch.setattr(_folder_exchange, "_system_call", lambda: None)


@pytest.mark.parametrize("name", ["new", "deep/er/new"])
def test_appears_at_the_end(tmp_path, name):
    top = tmp_path / name.split("/")[0]
    written = write(tmp_path / name, "one", event=lambda: check_absent(top))
    assert written == str(tmp_path / name)
    assert (tmp_path / name / "text").read_text() == "one"
    assert not [p for p in everything(tmp_path) if p.startswith(".")]


def check_absent(path):
    assert not path.exists()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_when_it_fails(tmp_path, error):
    def fail():
        raise error

    with pytest.raises(error):
        write(tmp_path / "deep" / "new", "one", event=fail)
    assert everything(tmp_path) == []


def test_replaces_an_earlier_output_whole(tmp_path, exchange):
    with OutputFolder(tmp_path / "out", COMMAND) as output:
        os.makedirs(os.path.join(output.folder, "model", "assets"))
        for name in ("text", "extra", "model/weights"):
            with open(os.path.join(output.folder, name), "w") as file:
                file.write("one")
    write(tmp_path / "out", "two")
    assert everything(tmp_path) == WHOLE
    assert (tmp_path / "out" / "text").read_text() == "two"


def test_an_earlier_output_survives_a_failure(tmp_path):
    write(tmp_path / "out", "one")
    with pytest.raises(ZeroDivisionError):
        write(tmp_path / "out", "two", event=lambda: 1 / 0)
    assert (tmp_path / "out" / "text").read_text() == "one"
    assert everything(tmp_path) == WHOLE


def test_an_earlier_output_survives_failing_renames(tmp_path, monkeypatch):
    write(tmp_path / "out", "one")
    rename = os.rename

    def failing(source, target):
        if str(source).endswith(".new"):
            raise OSError("no space left")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(CommandError, match="cannot be written .no space left"):
        write(tmp_path / "out", "two")
    assert (tmp_path / "out" / "text").read_text() == "one"
    assert everything(tmp_path) == WHOLE


def test_an_empty_folder_may_be_filled(tmp_path):
    (tmp_path / "out").mkdir()
    write(tmp_path / "out", "one")
    assert everything(tmp_path) == WHOLE


@pytest.mark.parametrize(
    "content", ["{}", "[]", "not json", '{"command": "tfrs-negatives train"}']
)
def test_anything_else_is_never_touched(tmp_path, content):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "manifest.json").write_text(content)
    with pytest.raises(CommandError, match="something else"):
        write(tmp_path / "out", "two")
    assert (tmp_path / "out" / "manifest.json").read_text() == content
    assert everything(tmp_path) == WHOLE[:2]


def test_the_output_of_another_command_is_never_touched(tmp_path):
    write(tmp_path / "out", "one", command="tfrs-negatives audit")
    with pytest.raises(CommandError, match="something else"):
        write(tmp_path / "out", "two")
    assert (tmp_path / "out" / "text").read_text() == "one"


def add_file(out):
    (out / "notes").write_text("mine")


def add_deep_file(out):
    (out / "model").mkdir()
    (out / "model" / "notes").write_text("mine")


def change_file(out):
    (out / "text").write_text("two")  # Of the same size.


def add_link(out):
    (out.parent / "elsewhere").mkdir()
    (out / "link").symlink_to(out.parent / "elsewhere")


@pytest.mark.parametrize("when", ["before", "meanwhile"])
@pytest.mark.parametrize(
    "change, name",
    [
        (add_file, "notes"),
        (add_deep_file, "model/notes"),
        (change_file, "text"),
        (add_link, "link"),
    ],
)
def test_files_that_a_person_added_or_changed_stay(
    tmp_path, capsys, change, name, when
):
    out = tmp_path / "out"
    write(out, "one")
    if when == "before":
        change(out)
        before = everything(tmp_path)
        with pytest.raises(CommandError, match=f"'{name}', which are never replaced"):
            write(out, "new")
        assert everything(tmp_path) == before
    else:
        assert write(out, "new", event=lambda: change(out)) == f"{out}-1"
        said = capsys.readouterr().err
        assert f"{out} was not written" in said and f"The output is in {out}-1" in said
        assert repr(name) in said
        assert (tmp_path / "out-1" / "text").read_text() == "new"
    assert (out / "text").read_text() == ("two" if change is change_file else "one")
    assert os.path.lexists(out / name)
    assert not [p for p in everything(tmp_path) if p.startswith(".")]


@pytest.mark.parametrize("kind", ["folder", "file", "empty folder"])
def test_what_somebody_makes_meanwhile_stays(tmp_path, capsys, kind):
    out = tmp_path / "out"
    (tmp_path / "out-1").write_text("mine too")

    def make():
        if kind == "file":
            out.write_text("precious")
            return
        out.mkdir()
        if kind == "folder":
            (out / "precious").write_text("precious")

    written = write(out, "new", event=make)
    if kind == "empty folder":
        assert written == str(out)
    else:
        assert written == f"{out}-2"
        kept = out if kind == "file" else out / "precious"
        assert kept.read_text() == "precious"
        assert "was not written" in capsys.readouterr().err
    assert (tmp_path / "out-1").read_text() == "mine too"
    with open(os.path.join(written, "text")) as file:
        assert file.read() == "new"


@pytest.mark.parametrize("moment", ["before the exchange", "after the exchange"])
def test_a_file_written_at_the_last_moment_stays(
    tmp_path, capsys, monkeypatch, moment, exchange
):
    """Between the last look and the exchange; and after the look that follows it."""
    out = tmp_path / "out"
    write(out, "one")
    if moment == "before the exchange":
        done = []

        def exchange(one, other):
            if not done:
                done.append(add_file(out))
            _folder_exchange.exchange(one, other)

        monkeypatch.setattr(_publish, "exchange", exchange)
        assert write(out, "new") == f"{out}-1"
        assert (out / "notes").read_text() == "mine"
        assert (out / "text").read_text() == "one"
    else:
        remove = _publish.remove

        def late(folder, names):
            with open(os.path.join(folder, "notes"), "w") as file:
                file.write("mine")
            return remove(folder, names)

        monkeypatch.setattr(_publish, "remove", late)
        assert write(out, "new") == str(out)
        assert (out / "text").read_text() == "new"
        kept = capsys.readouterr().err.strip().rsplit(" ", 1)[1]
        assert os.listdir(kept) == ["notes"]


CRASH = """
import os, sys
from tfrs_negatives import _folder_exchange
from tfrs_negatives.cli.output_folder import OutputFolder
path, step = sys.argv[1], int(sys.argv[2])
if sys.argv[3] == "False":
    _folder_exchange._system_call = lambda: None
with OutputFolder(path, "tfrs-negatives train") as output:
    with open(os.path.join(output.folder, "text"), "w") as file:
        file.write("two")
    seen = 0
    def audited(event, arguments):
        global seen
        if event in ("os.rename", "os.remove", "os.rmdir", "open"):
            seen += 1
            if seen == step:
                os._exit(3)
    sys.addaudithook(audited)
    if sys.argv[3] != "False":
        call = _folder_exchange._system_call()
        def counted(*paths):
            audited("os.rename", paths)
            return call(*paths)
        _folder_exchange._system_call = lambda: counted
"""


@pytest.mark.parametrize("at_once", [True, False])
def test_a_process_that_dies_at_any_step(tmp_path, at_once):
    """Old or new is there and whole; by three renames, or whole beside."""
    states, step = [], 0
    while True:
        step += 1
        folder = tmp_path / str(step)
        folder.mkdir()
        write(folder / "out", "one")
        command = [sys.executable, "-c", CRASH, folder / "out", str(step), str(at_once)]
        code = subprocess.run(command, check=False).returncode
        if code != 3:
            break
        found = folder / "out"
        if not found.exists():
            assert not at_once
            (found,) = folder.glob(".out.*.aside")
        text = (found / "text").read_text()
        manifest = json.loads((found / "manifest.json").read_text())
        assert manifest["files"]["text"]["bytes"] == 3
        assert everything(found) == ["manifest.json", "text"]
        states.append(text)
        # The lock of the dead is none, and what it left is in nobody's way.
        if found == folder / "out":
            write(found, "three")
            assert (found / "text").read_text() == "three"
    assert code == 0
    assert states == sorted(states) and set(states) == {"one", "two"}


def test_a_second_run_says_that_the_first_writes(tmp_path):
    def second():
        with pytest.raises(CommandError, match=f"process {os.getpid()} on .* writes"):
            write(tmp_path / "deep" / "out", "two")
        write(tmp_path / "other" / "out", "two")  # Another one of the same name.

    write(tmp_path / "deep" / "out", "one", event=second)
    assert (tmp_path / "deep" / "out" / "text").read_text() == "one"
    assert (tmp_path / "other" / "out" / "text").read_text() == "two"
    assert not [p for p in everything(tmp_path) if p.startswith(".")]


def test_a_file_is_never_touched(tmp_path):
    (tmp_path / "out").write_text("precious")
    with pytest.raises(CommandError, match="which is a file"):
        write(tmp_path / "out", "one")
    assert (tmp_path / "out").read_text() == "precious"


def test_a_place_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CommandError, match="can be written"):
        write(tmp_path / "out", "one")


def test_a_folder_whose_name_cannot_be_given_away(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CommandError, match=r"--output \./output"):
        write(".", "one")


def test_what_a_killed_run_left_is_removed(tmp_path):
    script = (
        "import os, signal; from tfrs_negatives.cli.output_folder import OutputFolder; "
        f"o = OutputFolder({str(tmp_path / 'out')!r}, 'c').__enter__(); "
        "open(o.folder + '/rows', 'w').close(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    assert list(tmp_path.glob(".out.*.new"))
    other = tmp_path / f".out.{'0' * 12}.{'0' * 32}.new"  # Of an output elsewhere.
    other.mkdir()
    write(tmp_path / "out", "text")
    assert list(tmp_path.glob(".out.*.new")) == [other]
    assert not list(tmp_path.glob(".out.*.lock"))


def test_a_command_that_is_told_to_end_leaves_nothing(tmp_path):
    """SIGTERM, as of a cluster that wants its machine back."""
    script = (
        "import sys, time, types\n"
        "from tfrs_negatives.cli import main\n"
        "from tfrs_negatives.cli.output_folder import OutputFolder\n"
        "def train(options):\n"
        "    with OutputFolder(options.output, 'train') as output:\n"
        "        open(output.folder + '/rows', 'w').close()\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "command = types.ModuleType('train_command')\n"
        "command.train = train\n"
        "sys.modules['tfrs_negatives.cli.train_command'] = command\n"
        f"sys.exit(main(['train', '--output', {str(tmp_path / 'out')!r}]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    assert list(tmp_path.glob(".out.*.new"))
    process.terminate()
    assert process.wait(timeout=30) == 143
    process.stdout.close()
    assert everything(tmp_path) == []
