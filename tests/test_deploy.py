"""The steps of `deploy`, without Docker and without a service of systemd."""

import configparser
import contextlib
import fnmatch
import http.server
import inspect
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import threading
import urllib.error

import pytest
from packaging.specifiers import SpecifierSet

from tfrs_negatives.cli import arguments
from tfrs_negatives.serving import Limits

ROOT = pathlib.Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"


def ini(path):
    """A file of sections; keys keep their case, and the last of one name counts."""
    parsed = configparser.ConfigParser(strict=False, interpolation=None)
    parsed.optionxform = str
    parsed.read_string(path.read_text())
    return parsed


SETUP = ini(ROOT / "setup.cfg")


def instructions():
    """Those of the Dockerfile: names and the rest, in order."""
    lines = [
        line
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in whole.splitlines()]


STEPS = instructions()


def step(name):
    """What the only instruction of a name says."""
    (found,) = [rest for each, rest in STEPS if each == name]
    return found


def last(name):
    """The place of the last instruction of a name."""
    return max(n for n, (each, _) in enumerate(STEPS) if each == name)


def options_of(command):
    """The console script's options, out of the words of a command."""
    scripts = dict(
        map(str.strip, line.split("="))
        for line in SETUP["options.entry_points"]["console_scripts"].split("\n")
        if line
    )
    assert scripts[pathlib.Path(command[0]).name] == "tfrs_negatives.cli:main"
    options = arguments.parse(command[1:])
    assert command[1] == "serve"
    return options


def test_the_image_is_of_a_python_that_the_package_takes():
    base = step("FROM")
    version = re.fullmatch(r"python:(\d+\.\d+)-slim", base)[1]
    assert version in SpecifierSet(SETUP["options"]["python_requires"])
    assert f"Python :: {version}" in SETUP["metadata"]["classifiers"]


def test_the_image_is_built_from_files_that_are_there():
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert "*" in ignored
    sent = [line[1:] for line in ignored if line.startswith("!")]
    copied = []
    for name, rest in STEPS:
        if name == "COPY":
            *sources, target = rest.split()
            assert target.startswith("/src/")
            copied += sources
    assert sorted(copied) == sorted(sent)
    for source in copied:
        assert (ROOT / source).exists(), source
        assert not any(
            fnmatch.fnmatch(source, line) for line in ignored if line[0] not in "!*"
        )
    # What installing it reads.
    read = SETUP["metadata"]["long_description"].removeprefix("file:").strip()
    needed = {"setup.cfg", "pyproject.toml", "tfrs_negatives", read}
    assert needed | {SETUP["metadata"]["license_files"]} == set(copied)


def test_the_image_installs_extras_that_there_are():
    (installed,) = [rest for name, rest in STEPS if name == "RUN" and "pip" in rest]
    words = shlex.split(installed)
    assert words[:2] == ["pip", "install"]
    folder, extras = re.fullmatch(r"(/src)\[(.+)\]", words[2]).groups()
    extras = set(extras.split(","))
    assert folder == "/src" and extras == {"serve", "scann"}
    assert extras <= set(SETUP["options.extras_require"])


def test_the_image_does_not_run_as_root():
    user = int(step("USER"))
    assert user > 0
    (made,) = [rest for name, rest in STEPS if name == "RUN" and "useradd" in rest]
    assert f"--uid {user} " in made
    # Only root installs, and all that follows is the user's.
    assert last("RUN") < last("USER") < last("ENTRYPOINT")


def test_the_command_of_the_image():
    command = json.loads(step("ENTRYPOINT")) + json.loads(step("CMD"))
    options = options_of(command)
    # Else nobody outside of the container is heard.
    assert options.host == "0.0.0.0" and options.log_format == "json"
    assert step("EXPOSE").split() == [str(options.grpc_port), str(options.port)]
    assert options.model.startswith(step("WORKDIR"))
    # What follows the image's name in `docker run`.
    assert options_of([*command, "--access-log"]).access_log


@contextlib.contextmanager
def answering(status):
    """The port of a server whose answers have a status."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/healthz/ready" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_the_health_check_of_the_image():
    flags, command = step("HEALTHCHECK").split("CMD", 1)
    program, flag, code = json.loads(command)
    assert (program, flag) == ("python", "-c")
    port = options_of(json.loads(step("ENTRYPOINT"))).port
    assert f"127.0.0.1:{port}/" in code
    (seconds,) = re.findall(r"--timeout=(\d+)s", flags)
    assert int(re.search(r"timeout=(\d+)", code)[1]) < int(seconds)
    for status in (200, 503):
        with answering(status) as taken:
            check = code.replace(str(port), str(taken))
            if status == 200:
                exec(check, {})
            else:
                with pytest.raises(urllib.error.HTTPError):
                    exec(check, {})
    # Nobody listens there any more.
    with pytest.raises(urllib.error.URLError):
        exec(check, {})


UNIT = ini(DEPLOY / "tfrs-negatives.service")


def test_the_command_of_the_unit():
    unit = UNIT["Service"]
    options = options_of(shlex.split(unit["ExecStart"]))
    state = pathlib.Path("/var/lib", unit["StateDirectory"])
    assert state in pathlib.Path(options.model).parents
    assert options.log_format == "json" and options.host == "127.0.0.1"
    assert unit["Type"] == "exec" and unit["Restart"] == "on-failure"


def test_the_unit_leaves_the_server_what_it_needs():
    server = pytest.importorskip("tfrs_negatives.serving.server")
    unit, signature = UNIT["Service"], inspect.signature(Limits)
    connections = signature.parameters["max_connections"].default
    assert int(unit["LimitNOFILE"]) >= 2 * connections + 1000
    assert float(unit["TimeoutStopSec"]) > server._GRACE
    families = set(unit["RestrictAddressFamilies"].split())
    assert {"AF_INET", "AF_INET6"} <= families
    # Not "~...", which would take away what follows.
    assert unit["SystemCallFilter"] == "@system-service"


def test_the_unit_is_hardened():
    unit = UNIT["Service"]
    assert unit["User"] not in ("", "root", "0")
    assert unit["CapabilityBoundingSet"] == unit["AmbientCapabilities"] == ""
    assert unit["ProtectSystem"] == "strict"
    for name in (
        "LockPersonality",
        "NoNewPrivileges",
        "PrivateDevices",
        "PrivateTmp",
        "ProtectControlGroups",
        "ProtectHome",
        "ProtectKernelModules",
        "ProtectKernelTunables",
        "RestrictNamespaces",
        "RestrictSUIDSGID",
    ):
        assert unit[name] == "yes", name


def test_systemd_takes_the_unit():
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("needs the program systemd-analyze")
    found = subprocess.run(
        [program, "verify", str(DEPLOY / "tfrs-negatives.service")],
        capture_output=True,
        text=True,
    )
    # It names each directive that it does not know. The program is not installed here.
    complaints = [
        line
        for line in found.stderr.splitlines()
        if "tfrs-negatives" in line and "is not executable" not in line
    ]
    assert not complaints
