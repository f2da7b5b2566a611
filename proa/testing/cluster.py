"""`Cluster`: API server, scheduler, controllers and simulated nodes on one event loop with virtual time.

Without `https` the loop runs only while a method of the cluster runs, in the caller's thread: nothing moves between
two calls, and a seeded run is repeatable. With `https` the loop runs in a thread of its own and time passes as the
machine's does, so that real clients (in other threads or processes) can talk to the endpoint; `advance` still jumps.
"""

from __future__ import annotations

import asyncio
import shutil
import ssl
import tempfile
import threading
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

from proa.apis.registry import ResourceDef
from proa.apiserver.app import ApiServer, Options
from proa.apiserver.authn.frontproxy import FrontProxy
from proa.client.informer import SharedInformers
from proa.client.interface import STRATEGIC_PATCH, DeleteOptions, ListOptions, UserInfo
from proa.client.local import LocalClient
from proa.client.observing import ObservingClient
from proa.client.resources import APISERVICES, CLUSTERROLEBINDINGS, CLUSTERROLES, STORAGECLASSES
from proa.kubelet.simulated import Group, Life, NodeTemplate, SimulatedNodes
from proa.meta.errors import StatusError
from proa.meta.gvk import GVK, GVR, split_api_version
from proa.meta.objects import Obj, namespace_of
from proa.util.virtualtime import EPOCH, LoopClock, VirtualTimeLoop

T = TypeVar("T")

ADMIN = UserInfo("proa:testing", ("system:masters", "system:authenticated"))
BALANCER_RANGE = "100.127.0.0/16"  # what load balancers get here; simulated like the pods' addresses
STEP_SECONDS_MIN, STEP_SECONDS_MAX = 0.01, 1.0


class Cluster:
    """A cluster for the length of a `with` block.

    `nodes` simulated nodes made from `template`, and those of `groups` beside them; pods live as the first matching
    one of `lives` says. `controllers`
    false leaves out controllers and scheduler (envtest's shape: an API server alone). `https` opens a real endpoint;
    `kubeconfig` is then the path of a kubeconfig for it. All waiting is in virtual seconds, from `epoch` on (by
    default a fixed day; with `https` now). `scheduler_config` is a KubeSchedulerConfiguration file,
    `scheduler_plugins` are Python files with plugins of one's own.
    """

    def __init__(
        self,
        *,
        nodes: int = 1,
        template: NodeTemplate | None = None,
        groups: Sequence[Group] = (),
        lives: Sequence[Life] = (),
        controllers: bool = True,
        https: bool = False,
        epoch: datetime | None = None,
        scheduler_config: Path | None = None,
        scheduler_plugins: Sequence[Path] = (),
    ) -> None:
        self._groups = [Group(template or NodeTemplate(), nodes), *groups]
        self._lives = lives
        self._controllers = controllers
        self._https = https
        self._scheduler_files = scheduler_config, scheduler_plugins
        self._loop = VirtualTimeLoop()
        # Certificates are valid by the machine's clock, which real clients check them with.
        self.clock = LoopClock(self._loop, epoch or (datetime.now(UTC) if https else EPOCH))
        self.server: ApiServer
        self.simulated: SimulatedNodes
        self.kubeconfig: Path | None = None
        self._thread: threading.Thread | None = None
        self._parts = AsyncExitStack()

    # ------------------------------------------------------------ life

    def __enter__(self) -> Cluster:
        if self._https:
            self._thread = threading.Thread(target=self._serve, name="proa.testing", daemon=True)
            self._thread.start()
        try:
            self.run(self._start())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.run(self._parts.aclose())
            self.run(self._end_tasks())
        finally:
            if self._thread is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
            self._loop.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        with self._loop.hold():
            self._loop.run_forever()

    async def _end_tasks(self) -> None:
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(self) -> None:
        self.server = ApiServer(self._options(), self.clock)
        await self.server.start()
        self._parts.push_async_callback(self.server.stop)
        if self._https:
            self._write_kubeconfig()
        self.client = LocalClient(self.server.api, ADMIN)
        self._informers = SharedInformers(self.client)
        if self._controllers:
            await self._start_controllers()
        await self._informers.start()
        self._parts.push_async_callback(self._informers.stop)
        self.simulated = SimulatedNodes(self.client, self._informers, self.clock, self._groups, self._lives)
        if self.simulated.names:
            await self.simulated.start()
            self._parts.push_async_callback(self.simulated.stop)

    async def _start_controllers(self) -> None:
        from proa.apis.metrics.resources import api_service, reader_role
        from proa.cloud.controllers import controllers as cloud_controllers
        from proa.controllers.localpath.run import LocalPathProvisioner
        from proa.controllers.manager import Manager, service_account
        from proa.controllers.runtime import Options as ControllerOptions
        from proa.scheduler.run import Scheduler

        await self.client.create(CLUSTERROLES, reader_role())
        await self.client.create(APISERVICES, api_service())
        await self._add_local_path()
        self.manager = manager = Manager(
            self._informers,
            self.clock,
            lambda name: LocalClient(self.server.api, service_account(name)),
            ControllerOptions(root_ca=self._root_ca()),
            extra=(LocalPathProvisioner, *cloud_controllers("local", BALANCER_RANGE)),
        )
        await manager.start()
        self._parts.push_async_callback(manager.stop)
        user = UserInfo("system:kube-scheduler", ("system:authenticated",))
        client = ObservingClient(LocalClient(self.server.api, user), self._informers, self.clock)
        scheduler = Scheduler(client, self._informers, self.clock, **self._scheduler_options())
        await self._informers.start()
        await scheduler.start()
        self.server.metrics.others.append(scheduler.counts)
        self._parts.push_async_callback(scheduler.stop)

    async def _add_local_path(self) -> None:
        from proa.apis.storage.local_path import storage_class
        from proa.cluster import addons

        await self.client.create(STORAGECLASSES, storage_class())
        await self.client.create(CLUSTERROLES, addons.role("proa:local-path-provisioner"))
        await self.client.create(CLUSTERROLEBINDINGS, addons.binding("proa:local-path-provisioner"))

    def _scheduler_options(self) -> dict[str, Any]:
        file, plugins = self._scheduler_files
        if file is None and not plugins:
            return {}
        from proa.scheduler.loading import load

        configuration = load(file, plugins)
        return {"profiles": configuration.profiles, "backoff_seconds": configuration.backoff_seconds}

    # ------------------------------------------------------------ the endpoint

    def _options(self) -> Options:
        if not self._https:
            return Options()
        from proa.cluster.pki import COMPONENTS, Pki, api_server
        from proa.wire.tls import server_context

        folder = Path(tempfile.mkdtemp(prefix="proa-testing-"))
        self._parts.callback(shutil.rmtree, folder, True)
        self._pki = Pki(folder)
        self._pki.ensure([*COMPONENTS, api_server(["127.0.0.1"])])
        context: ssl.SSLContext = server_context(
            self._pki.certificate("apiserver"), self._pki.key("apiserver"), self._pki.certificate("ca")
        )
        context.load_verify_locations(self._pki.certificate("front-proxy-ca"))
        return Options(
            ssl_context=context,
            service_account_key=self._pki.key("sa").read_bytes(),
            front_proxy=FrontProxy(
                authorities=[self._pki.certificate("front-proxy-ca").read_bytes()], names=["front-proxy-client"]
            ),
            client_authority=self._pki.certificate("ca").read_bytes(),
            proxy_certificate=self._pki.certificate("front-proxy-client"),
            proxy_key=self._pki.key("front-proxy-client"),
        )

    def _root_ca(self) -> str:
        return self._pki.certificate("ca").read_text() if self._https else ""

    def _write_kubeconfig(self) -> None:
        from proa.cluster import kubeconfig

        self.kubeconfig = self._pki.certificate("ca").parent / "kubeconfig"
        content = kubeconfig.config(
            "testing",
            f"https://127.0.0.1:{self.server.port}",
            self._pki.certificate("ca").read_bytes(),
            self._pki.certificate("admin").read_bytes(),
            self._pki.key("admin").read_bytes(),
        )
        kubeconfig.write(self.kubeconfig, content)

    # ------------------------------------------------------------ time

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Runs a coroutine on the cluster's loop to its end: for code of your own that uses `client`."""
        if self._thread is not None:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        return self._loop.run_until_complete(work)

    @property
    def now(self) -> datetime:
        """The cluster's time."""
        return self.clock.now()

    def advance(self, seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0) -> None:
        """Lets so much virtual time pass, with everything that falls due in it."""
        span = timedelta(seconds=seconds, minutes=minutes, hours=hours).total_seconds()
        self.run(self._pass(span))

    async def _pass(self, seconds: float) -> None:
        if self._thread is None:
            await asyncio.sleep(seconds)
        else:
            with self._loop.release():
                await asyncio.sleep(seconds)

    def settle(self) -> None:
        """Lets everything happen that is due now."""
        self.advance(STEP_SECONDS_MIN)

    def wait(
        self, condition: Callable[[], T] | Callable[[], Awaitable[T]], seconds_max: float = 60.0, what: str = ""
    ) -> T:
        """Lets time pass until `condition` (a function, or a coroutine function on the cluster's loop) is true.

        A condition that raises StatusError (nothing there yet) is not true. Returns its value; raises TimeoutError
        after `seconds_max` virtual seconds.
        """
        end, step = self._loop.time() + seconds_max, STEP_SECONDS_MIN
        while True:
            found = self._try(condition)
            if found:
                return cast(T, found)
            if self._loop.time() >= end:
                raise TimeoutError(f"not within {seconds_max} virtual seconds: {what or condition}")
            self.advance(step)
            step = min(step * 2, STEP_SECONDS_MAX)

    def _try(self, condition: Callable[[], Any]) -> Any:
        try:
            found = condition()
            return self.run(found) if asyncio.iscoroutine(found) else found
        except StatusError:
            return None

    # ------------------------------------------------------------ objects

    def create(self, obj: Obj, namespace: str = "default") -> Obj:
        """Creates an object, which names its own apiVersion and kind."""
        resource = self._resource_of(obj)
        return self.run(
            self.client.create(resource.gvr, obj, self._namespace(resource, namespace_of(obj) or namespace))
        )

    def update(self, obj: Obj, subresource: str = "") -> Obj:
        """Replaces an object (or its status, for example)."""
        return self.run(self.client.update(self._resource_of(obj).gvr, obj, subresource=subresource))

    def get(self, resource: str | GVR, name: str, namespace: str = "default", *, subresource: str = "") -> Obj:
        """Returns an object; `resource` is a plural or short name, with its group if need be (`deployments.apps`)."""
        found = self._resource(resource)
        where = self._namespace(found, namespace)
        return self.run(self.client.get(found.gvr, name, where, subresource=subresource))

    def list(self, resource: str | GVR, namespace: str = "", **selectors: str) -> list[Obj]:
        """Returns objects of one namespace, or of all; `label_selector` and `field_selector` as texts."""
        found = self._resource(resource)
        options = ListOptions(**selectors)  # type: ignore[arg-type]
        return self.run(self.client.list(found.gvr, self._namespace(found, namespace), options)).items

    def patch(
        self,
        resource: str | GVR,
        name: str,
        patch: Any,
        namespace: str = "default",
        *,
        patch_type: str = STRATEGIC_PATCH,
        subresource: str = "",
    ) -> Obj:
        """Patches an object; strategic merge unless `patch_type` says otherwise."""
        found = self._resource(resource)
        where = self._namespace(found, namespace)
        return self.run(
            self.client.patch(found.gvr, name, patch, where, patch_type=patch_type, subresource=subresource)
        )

    def delete(
        self, resource: str | GVR, name: str, namespace: str = "default", options: DeleteOptions | None = None
    ) -> Obj:
        """Deletes an object."""
        found = self._resource(resource)
        where = self._namespace(found, namespace)
        return self.run(self.client.delete(found.gvr, name, where, options or DeleteOptions()))

    def delete_collection(self, resource: str | GVR, namespace: str = "default", **selectors: str) -> None:
        """Deletes the objects of a namespace that `label_selector` and `field_selector` choose."""
        found = self._resource(resource)
        where, chosen = self._namespace(found, namespace), ListOptions(**selectors)  # type: ignore[arg-type]
        self.run(self.client.delete_collection(found.gvr, where, DeleteOptions(), chosen))

    def evict(self, name: str, namespace: str = "default") -> None:
        """Evicts a pod, if its disruption budget allows it; raises the 429 StatusError if not."""
        pods = self._resource("pods")
        eviction: Obj = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
        self.run(self.client.create(pods.gvr, eviction, namespace, name=name, subresource="eviction"))

    def scale(self, resource: str | GVR, name: str, replicas: int, namespace: str = "default") -> Obj:
        """Replaces the scale of an object, whatever its revision is; returns the new one."""
        found = self._resource(resource)
        scale = self.get(found.gvr, name, namespace, subresource="scale")
        meta = {key: value for key, value in scale["metadata"].items() if key != "resourceVersion"}
        wanted = {**scale, "metadata": meta, "spec": {"replicas": replicas}}
        return self.run(self.client.update(found.gvr, wanted, subresource="scale"))

    def _resource_of(self, obj: Obj) -> ResourceDef:
        group, version = split_api_version(obj.get("apiVersion") or "")
        found = self.server.resources.of_kind(GVK(group, version, obj.get("kind") or ""))
        if found is None:
            raise ValueError(f"no resource of kind {obj.get('kind')!r} in {obj.get('apiVersion')!r}")
        return found

    def _resource(self, name: str | GVR) -> ResourceDef:
        if isinstance(name, GVR):
            return self.server.resources.get(name)
        plain, _, group = name.partition(".")
        for one in self.server.resources.all():
            if group in ("", one.group) and plain in (one.plural, one.singular, *one.short_names):
                return one
        raise ValueError(f"no resource named {name!r}")

    @staticmethod
    def _namespace(resource: ResourceDef, namespace: str) -> str:
        return namespace if resource.namespaced else ""
