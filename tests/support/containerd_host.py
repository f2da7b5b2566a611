"""A containerd of one's own for tests: own root, state and socket, inside a network namespace of its own.

Leaves nothing behind: `stop` removes every container, shim, mount and the namespace, found by the state directory.
"""

from __future__ import annotations

import functools
import io
import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from proa.cluster import debs, images
from proa.cluster.oci import FileTree
from proa.cluster.problems import Problem

PAUSE = "registry.local/pause:test"
CGROUP = "proa-test"  # all cgroups of tests are below it
BUSYBOX = "docker.io/library/busybox:latest"

CONFIG = """version = 2
root = "{dir}/root"
state = "{dir}/state"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.snapshotter.v1.btrfs"]
[grpc]
  address = "{dir}/containerd.sock"
[ttrpc]
  address = "{dir}/containerd.sock.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = {restrict}
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{dir}/cni"
"""

CNI = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [
        {
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": True,
            "ipMasq": False,
            "hairpinMode": True,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.97.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ],
}


@functools.cache
def busybox() -> bytes | None:
    """Returns a static busybox: this machine's own, or the distribution package's."""
    for candidate in (os.environ.get("BUSYBOX", ""), "/bin/busybox"):
        if candidate and Path(candidate).is_file():
            return Path(candidate).read_bytes()
    tree = FileTree()
    try:
        for package in debs.fetch(["busybox-static"], images.cache_directory() / "debs"):
            debs.unpack(package, tree)
        return tree.read("bin/busybox")
    except (Problem, KeyError):
        return None


def missing() -> str:
    """Says what a real containerd needs and this machine lacks; empty if nothing."""
    if os.geteuid() != 0:
        return "needs root"
    for program in ("containerd", "runc", "ctr", "ip", "nsenter"):
        if not shutil.which(program):
            return f"needs {program}"
    if not Path("/usr/lib/cni/bridge").exists():
        return "needs containernetworking-plugins"
    return "" if busybox() else "needs busybox-static"


def image_tar(name: str, files: dict[str, bytes], config: dict[str, object], links: dict[str, str]) -> bytes:
    """Makes an image archive (docker save's form) of one layer."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder in ("bin", "tmp", "etc", "proc", "dev", "sys", "home"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(entry)
        for path, data in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o755
            tar.addfile(entry, io.BytesIO(data))
        for path, target in links.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    layer_bytes = layer.getvalue()
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha256(layer_bytes).hexdigest()]},
    }
    image_bytes = json.dumps(image).encode()
    image_file = sha256(image_bytes).hexdigest() + ".json"
    manifest = json.dumps([{"Config": image_file, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, data in ((image_file, image_bytes), ("layer.tar", layer_bytes), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


@dataclass
class ContainerdHost:
    """`directory` holds all state; `netns` is the path of the namespace that containerd runs in."""

    directory: Path
    name: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"unix://{self.directory}/containerd.sock"

    @property
    def netns(self) -> str:
        return f"/run/netns/{self.name}"

    def start(self) -> None:
        (self.directory / "cni").mkdir(parents=True, exist_ok=True)
        (self.directory / "cni" / "10-pods.conflist").write_text(json.dumps(self._cni()))
        restrict = "false" if int(_status("CapEff"), 16) >> 24 & 1 else "true"
        config = self.directory / "config.toml"
        config.write_text(CONFIG.format(dir=self.directory, pause=PAUSE, restrict=restrict))
        if not Path(self.netns).exists():
            subprocess.run(["ip", "netns", "add", self.name], check=True)
            subprocess.run(["ip", "-n", self.name, "link", "set", "lo", "up"], check=True)
        self.run_containerd()
        data = busybox()
        assert data
        program = self.directory / "busybox"
        program.write_bytes(data)
        program.chmod(0o755)
        applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
        links = {f"bin/{applet}": "/bin/busybox" for applet in applets if applet != "busybox"}
        pause = {
            "Entrypoint": ["/bin/busybox", "sh", "-c", "trap exit TERM INT; while :; do sleep 100000 & wait; done"]
        }
        self.load(image_tar(PAUSE, {"bin/busybox": data}, pause, links))
        plain = {"Cmd": ["sh"], "Env": ["PATH=/bin"]}
        self.load(image_tar(BUSYBOX, {"bin/busybox": data}, plain, links))

    def _cni(self) -> dict[str, object]:
        text = json.dumps(CNI).replace(
            '"type": "host-local"', f'"type": "host-local", "dataDir": "{self.directory}/ipam"'
        )
        loaded: dict[str, object] = json.loads(text)
        return loaded

    def run_containerd(self) -> None:
        log = (self.directory / "containerd.log").open("ab")
        command = ["nsenter", f"--net={self.netns}", "containerd", "-c", str(self.directory / "config.toml")]
        self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            if self.ctr("version", check=False).returncode == 0:
                return
            time.sleep(0.05)
        raise TimeoutError("containerd does not answer: see " + str(self.directory / "containerd.log"))

    def load(self, archive: bytes) -> None:
        path = self.directory / "image.tar"
        path.write_bytes(archive)
        self.ctr("images", "import", str(path))
        path.unlink()

    def ctr(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        command = ["ctr", "-a", str(self.directory / "containerd.sock"), "-n", "k8s.io", *arguments]
        return subprocess.run(command, check=check, capture_output=True, timeout=60)

    def stop(self) -> None:
        """Ends everything that was started under this directory and removes it."""
        if self.process:
            self.process.kill()
            self.process.wait()
        # Shims are named by the socket's folder; killing them (and their children) leaves only mounts.
        for pid in _processes_naming(str(self.directory)):
            for child in _descendants(pid):
                _kill(child)
            _kill(pid)
        deadline = time.monotonic() + 10
        while _processes_naming(str(self.directory)) and time.monotonic() < deadline:
            time.sleep(0.02)
        for line in reversed(Path("/proc/self/mounts").read_text().splitlines()):
            mountpoint = line.split(" ")[1]
            if mountpoint.startswith(str(self.directory)):
                subprocess.run(["umount", "-l", mountpoint], check=False)
        for namespace in self._pod_namespaces():
            subprocess.run(["ip", "netns", "delete", namespace], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "netns", "delete", self.name], check=False, stderr=subprocess.DEVNULL)
        for hierarchy in (Path("/sys/fs/cgroup"), *Path("/sys/fs/cgroup").iterdir()):
            for folder, _, _ in os.walk(hierarchy / CGROUP, topdown=False):
                os.rmdir(folder)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _pod_namespaces(self) -> list[str]:
        found = []
        for path in self.directory.glob("root/io.containerd.grpc.v1.cri/sandboxes/*"):
            for spec in self.directory.glob(f"state/io.containerd.runtime.v2.task/k8s.io/{path.name}/config.json"):
                namespaces = json.loads(spec.read_text())["linux"]["namespaces"]
                found += [Path(one["path"]).name for one in namespaces if one["type"] == "network" and "path" in one]
        return found


def _status(name: str) -> str:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return line.split()[1]
    return "0"


def _processes_naming(text: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if arguments[0].endswith((b"containerd-shim-runc-v2", b"containerd")) and any(
            argument.startswith(text.encode()) for argument in arguments
        ):
            found.append(int(path.parent.name))
    return found


def _descendants(pid: int) -> list[int]:
    try:
        children = [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        for thread in Path(f"/proc/{pid}/task").iterdir():
            children += [int(one) for one in (thread / "children").read_text().split()]
    except OSError:
        return []
    return [one for child in set(children) for one in (child, *_descendants(child))]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
