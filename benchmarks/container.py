"""Does what Dockerfile and compose.yaml say in a clean root file system, where there is no Docker.

    debootstrap --variant=minbase --include=python3-venv,ca-certificates bookworm ROOT
    python -m benchmarks.container ROOT [--bind PATH ...] [--only-run]

Needs root, debootstrap, unshare and setpriv. ROOT stands in for the base image, with the Python of
its distribution. Every instruction of the Dockerfile is carried out in it by chroot: RUN as
written, COPY by .dockerignore's rules, as the user that USER names. Then the app is started by CMD
and asked by HEALTHCHECK, and the services of compose.yaml are started by their commands, users and
environments in one network namespace without a way out, where their names are this host's. Recipes
are evaluated on their workers, through TLS.

What this cannot tell: whether the base image has what ROOT has, Docker's own networks, volumes,
capabilities and read-only root. What is written outside of the folders that containers may write to
is found by looking.

--bind: folders and files of this machine that pip needs in ROOT, such as its configuration.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml

from whisperq_core.settings import PROJECT

UP_S, EVALUATION_S = 180, 900
# Where a container's processes may write, besides volumes.
_WRITABLE = ("tmp", "app/cache", "app/keys", "dev", "proc", "root", "opt/python")


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Its instructions and their arguments, in order; lines that go on are joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\s*\n", " ", text).splitlines()
    return [
        (name.upper(), rest.strip()) for name, _, rest in (s.partition(" ") for s in lines) if name
    ]


def exec_form(text: str) -> list[str]:
    """The words of a CMD or HEALTHCHECK."""
    return list(json.loads(text)) if text.startswith("[") else ["sh", "-c", text]


@dataclass
class Image:
    """A root file system and what a Dockerfile says of it."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = ""
    command: list[str] = field(default_factory=list)
    healthcheck: list[str] = field(default_factory=list)

    def build(self, dockerfile: Path) -> None:
        """Carries out every instruction."""
        for name, text in instructions(dockerfile):
            print(f"{name} {text}", flush=True)
            match name:
                case "FROM":
                    self._python()
                case "ENV" | "ARG":
                    self.environment |= dict(w.split("=", 1) for w in shlex.split(text))
                case "RUN":
                    self.run(["sh", "-c", text], check=True)
                case "WORKDIR":
                    self.folder = text
                    (self.root / text.lstrip("/")).mkdir(parents=True, exist_ok=True)
                case "COPY":
                    *sources, target = text.split()
                    self._copy(sources, target)
                case "USER":
                    self.user = text
                case "CMD":
                    self.command = exec_form(text)
                case "HEALTHCHECK":
                    self.healthcheck = exec_form(text.split("CMD", 1)[1].strip())
                case "VOLUME" | "EXPOSE":
                    pass
                case _:
                    raise SystemExit(f"{name} is not known here.")

    def _python(self) -> None:
        """Stands in for the base image's Python: `python` and `pip` on the PATH."""
        path = "/opt/python/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        self.environment = {"PATH": path, "LANG": "C.UTF-8"}
        self.run(["python3", "-m", "venv", "/opt/python"], check=True)

    def _copy(self, sources: Sequence[str], target: str) -> None:
        place = self.root / self.folder.lstrip("/") / target
        for path in context_files(PROJECT):
            if sources == ["."] or str(path) in sources:
                copied = place / path
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(PROJECT / path, copied)

    def arguments(self, command: Sequence[str], environment: dict[str, str]) -> list[str]:
        """The command in the root file system, as the image's user."""
        variables = [f"{k}={v}" for k, v in (self.environment | environment).items()]
        as_user = []
        if self.user:
            ids = ["--reuid", self.user, "--regid", self.user]
            as_user = ["setpriv", *ids, "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
        shell = f"cd {shlex.quote(self.folder)} && exec {shlex.join(command)}"
        return ["chroot", str(self.root), *as_user, "env", "-i", *variables, "sh", "-c", shell]

    def run(self, command: Sequence[str], **how: Any) -> "subprocess.CompletedProcess[str]":
        """Runs a command to its end."""
        return subprocess.run(self.arguments(command, {}), text=True, **how)


def context_files(project: Path) -> Iterator[Path]:
    """Files that .dockerignore leaves in the build's context; the last rule that fits decides."""
    lines = (project / ".dockerignore").read_text().splitlines()
    rules = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    for file in sorted(project.rglob("*")):
        path = file.relative_to(project)
        if file.is_file() and not file.is_symlink() and not _is_ignored(path, rules):
            yield path


def _is_ignored(path: Path, rules: Sequence[str]) -> bool:
    ignored = False
    for rule in rules:
        pattern = rule.removeprefix("!")
        for part in (path, *path.parents):
            if pattern.startswith("**/"):
                fits = fnmatch(part.name, pattern.removeprefix("**/"))
            else:
                depth = pattern.count("/") + 1
                fits = len(part.parts) == depth and fnmatch(str(part), pattern)
            if fits:
                ignored = not rule.startswith("!")
    return ignored


@contextmanager
def mounted(root: Path, binds: Sequence[str]) -> Iterator[None]:
    """Mounts /proc, /dev and the binds below the root, and takes them away again."""
    targets = []
    try:
        for source in ("/proc", "/dev", "/dev/shm", "/etc/resolv.conf", *binds):
            target = root / source.lstrip("/")
            if Path(source).is_dir():
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            subprocess.run(["mount", "--bind", source, str(target)], check=True)
            targets.append(target)
        yield
    finally:
        for target in reversed(targets):
            subprocess.run(["umount", "-l", str(target)], check=False)


class Network:
    """A network namespace with nothing but its own loopback."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        time.sleep(1)
        self.run(["ip", "link", "set", "lo", "up"])

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command in the namespace."""
        return ["nsenter", "--net", f"--target={self._holder.pid}", *command]

    def run(self, command: Sequence[str], **how: Any) -> "subprocess.CompletedProcess[str]":
        """Runs a command in the namespace to its end."""
        return subprocess.run(self.inside(command), text=True, check=True, **how)

    def close(self) -> None:
        """Ends the namespace."""
        self._holder.kill()


@contextmanager
def started(arguments: list[str], log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process in the background, which is ended with the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


def wait_for(check: list[str], log: Path) -> float:
    """Seconds until a command succeeds."""
    start = time.monotonic()
    while time.monotonic() - start < UP_S:
        if subprocess.run(check, capture_output=True, check=False).returncode == 0:
            return time.monotonic() - start
        time.sleep(1)
    raise SystemExit(f"Not up after {UP_S} s:\n{log.read_text()[-3000:]}")


def listening(network: Network) -> list[str]:
    """Addresses at which something listens in the namespace."""
    lines = network.run(["ss", "-Hltn"], capture_output=True).stdout.splitlines()
    return sorted({line.split()[3] for line in lines})


def written_outside(root: Path, since: float) -> list[str]:
    """Files that are newer and not where containers may write."""
    found = subprocess.run(
        ["find", str(root), "-xdev", "-type", "f", "-newermt", f"@{since}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    paths = (str(Path(path).relative_to(root)) for path in found)
    return [path for path in paths if not path.startswith(_WRITABLE)]


def try_app(image: Image, network: Network, logs: Path) -> None:
    """CMD and HEALTHCHECK, with and without being told to listen on all addresses."""
    check = network.inside(image.arguments(image.healthcheck, {}))
    for environment in ({}, {"STREAMLIT_SERVER_ADDRESS": "0.0.0.0"}):
        app = network.inside(image.arguments(image.command, {"HOME": "/tmp"} | environment))
        with started(app, logs / "app.log"):
            took_s = wait_for(check, logs / "app.log")
            print(
                f"app, {environment or 'as it is'}: healthy, listens on {listening(network)}"
                f" ({took_s:.0f} s)",
                flush=True,
            )
    command = ["python", "-m", "whisperq_core", "transcribe", "speech/jfk/jfk.flac"]
    said = network.run(
        image.arguments([*command, "--model", "tiny.en"], {"HOME": "/tmp"}), capture_output=True
    )
    print(said.stdout.strip().splitlines()[-1], flush=True)


def try_compose(image: Image, network: Network, logs: Path) -> None:
    """The services of compose.yaml, and an evaluation on their workers."""
    services = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]

    def of(name: str, *more: str) -> list[str]:
        command = [*services[name].get("command", image.command), *more]
        return network.inside(image.arguments(command, services[name]["environment"]))

    subprocess.run(of("certificate"), check=True)
    with ExitStack() as stack:
        stack.enter_context(started(of("scheduler"), logs / "scheduler.log"))
        healthy = image.arguments(services["scheduler"]["healthcheck"]["test"][1:], {})
        wait_for(network.inside(healthy), logs / "scheduler.log")
        for number in range(2):
            log = logs / f"worker-{number}.log"
            stack.enter_context(started(of("worker", "--name", f"worker-{number}"), log))
        stack.enter_context(started(of("app"), logs / "app.log"))
        wait_for(network.inside(image.arguments(image.healthcheck, {})), logs / "app.log")
        print(f"compose: all up, listening on {listening(network)}", flush=True)
        evaluate = ["python", "-m", "whisperq_core", "run", "--models", "tiny.en", "--only"]
        evaluate += ["accuracy", "--recipes", "fp32,torch-int8", "--sets", "jfk", "--threads", "1"]
        arguments = image.arguments(evaluate, services["app"]["environment"])
        latest = time.monotonic() + UP_S
        while True:
            done = subprocess.run(
                network.inside(arguments), capture_output=True, text=True, timeout=EVALUATION_S
            )
            # The app is up before the workers have joined.
            if "has no workers yet" not in done.stderr or time.monotonic() > latest:
                break
            time.sleep(2)
        print(done.stdout, done.stderr, f"exit code {done.returncode}", flush=True)
        if done.returncode:
            raise SystemExit("The evaluation on the workers of compose.yaml failed.")


def main() -> None:
    """Builds, starts and asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("root", type=Path, help="A clean root file system with Python.")
    parser.add_argument("--bind", action="append", default=[])
    parser.add_argument("--only-run", action="store_true", help="ROOT was built before.")
    chosen = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("chroot and mounts need root.")
    image, root = Image(chosen.root.resolve()), chosen.root.resolve()
    logs = root.parent / f"{root.name}-logs"
    logs.mkdir(exist_ok=True)
    with mounted(root, chosen.bind):
        if chosen.only_run:
            image.run = lambda *_, **__: None  # type: ignore[method-assign]
        image.build(PROJECT / "Dockerfile")
        (root / "tmp").chmod(0o1777)
        # As Docker writes it, and with the names that compose gives to services.
        (root / "etc" / "hosts").write_text("127.0.0.1 localhost scheduler\n")
        network, since = Network(), time.time()
        try:
            try_app(image, network, logs)
            try_compose(image, network, logs)
        finally:
            network.close()
        print("written elsewhere:", written_outside(root, since) or "nothing")


if __name__ == "__main__":
    main()
