"""Random clusters and pods that use everything the default plugins look at; the same for the same seed."""

from __future__ import annotations

import random

from proa.meta.objects import Obj
from proa.scheduler.columns import Columns
from proa.scheduler.devices.state import Devices
from proa.scheduler.storage import Storage
from tests.unit.scheduler.cases import cluster, node, pod
from tests.unit.scheduler.listers import Objects
from tests.unit.scheduler.oracle.world import World

ZONE = "topology.kubernetes.io/zone"
KEYS = [ZONE, "rack", "kubernetes.io/hostname"]
NAMESPACES: dict[str, dict[str, str]] = {"default": {"team": "a"}, "other": {"team": "b"}}
DRIVER = "dev.example.com"
LATE = {"metadata": {"name": "late"}, "provisioner": "csi.example.com", "volumeBindingMode": "WaitForFirstConsumer"}
LOCAL = {**LATE, "metadata": {"name": "local"}, "provisioner": "kubernetes.io/no-provisioner"}


def random_node(chance: random.Random, number: int) -> Obj:
    labels = {key: chance.choice("abc") for key in (ZONE, "rack", "disk") if chance.random() < 0.8}
    if chance.random() < 0.5:
        labels["size"] = str(chance.randint(1, 9))
    taints = [
        {
            "key": "t",
            "value": chance.choice("xy"),
            "effect": chance.choice(["NoSchedule", "NoExecute", "PreferNoSchedule"]),
        }
        for _ in range(chance.choice([0, 0, 0, 1, 2]))
    ]
    unique = {(one["key"], one["effect"]): one for one in taints}
    made = node(
        f"n{number}",
        cpu=str(chance.randint(1, 6)),
        memory=f"{chance.randint(1, 8)}Gi",
        pods=chance.randint(1, 6),
        labels=labels,
        taints=list(unique.values()),
        unschedulable=chance.random() < 0.1,
    )
    if chance.random() < 0.4:
        made["status"]["allocatable"]["example.com/gpu"] = str(chance.randint(1, 3))
    if chance.random() < 0.6:
        made["status"]["declaredFeatures"] = ["RestartAllContainersOnContainerExits"]
    return made


def _term(chance: random.Random) -> Obj:
    term: Obj = {
        "labelSelector": {"matchLabels": {"app": chance.choice("wxy")}},
        "topologyKey": chance.choice(KEYS),
    }
    which = chance.random()
    if which < 0.15:
        term["namespaces"] = [chance.choice(list(NAMESPACES))]
    elif which < 0.3:
        term["namespaceSelector"] = chance.choice([{}, {"matchLabels": {"team": chance.choice("ab")}}])
    return term


def _node_term(chance: random.Random) -> Obj:
    operator = chance.choice(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "name"])
    if operator == "name":
        names = [f"n{chance.randint(0, 8)}" for _ in range(3)]
        return {
            "matchFields": [{"key": "metadata.name", "operator": chance.choice(["In", "NotIn"]), "values": names[:1]}]
        }
    if operator in ("Gt", "Lt"):
        requirement: Obj = {"key": "size", "operator": operator, "values": [str(chance.randint(1, 9))]}
    else:
        requirement = {"key": chance.choice([ZONE, "disk"]), "operator": operator}
        if operator in ("In", "NotIn"):
            requirement["values"] = chance.sample("abc", chance.randint(1, 2))
    return {"matchExpressions": [requirement]}


def _affinity(chance: random.Random) -> Obj:
    affinity: Obj = {}
    for kind in ("podAffinity", "podAntiAffinity"):
        if chance.random() < 0.3:
            terms = [_term(chance) for _ in range(chance.randint(1, 2))]
            affinity.setdefault(kind, {})["requiredDuringSchedulingIgnoredDuringExecution"] = terms
        if chance.random() < 0.3:
            preferred = [{"weight": chance.randint(1, 50), "podAffinityTerm": _term(chance)}]
            affinity.setdefault(kind, {})["preferredDuringSchedulingIgnoredDuringExecution"] = preferred
    if chance.random() < 0.3:
        terms = [_node_term(chance) for _ in range(chance.randint(1, 2))]
        required = {"nodeSelectorTerms": terms}
        affinity.setdefault("nodeAffinity", {})["requiredDuringSchedulingIgnoredDuringExecution"] = required
    if chance.random() < 0.3:
        listed = [{"weight": chance.randint(1, 50), "preference": _node_term(chance)} for _ in range(2)]
        affinity.setdefault("nodeAffinity", {})["preferredDuringSchedulingIgnoredDuringExecution"] = listed
    return affinity


def _constraint(chance: random.Random) -> Obj:
    constraint = {
        "labelSelector": {"matchLabels": {"app": chance.choice("wxy")}},
        "topologyKey": chance.choice(KEYS),
        "maxSkew": chance.randint(1, 2),
        "whenUnsatisfiable": chance.choice(["DoNotSchedule", "ScheduleAnyway"]),
        "nodeAffinityPolicy": chance.choice(["Honor", "Ignore"]),
        "nodeTaintsPolicy": chance.choice(["Honor", "Ignore"]),
    }
    if constraint["whenUnsatisfiable"] == "DoNotSchedule" and chance.random() < 0.3:
        constraint["minDomains"] = chance.randint(1, 4)
    if chance.random() < 0.3:
        constraint["matchLabelKeys"] = ["version"]
    return constraint


def random_pod(chance: random.Random, number: int, world: World | None = None) -> Obj:
    spec: Obj = {"priority": chance.choice([0, 0, 5, 10])}
    affinity = _affinity(chance)
    if affinity:
        spec["affinity"] = affinity
    if chance.random() < 0.2:
        spec["nodeSelector"] = {"disk": chance.choice("abc")}
    if chance.random() < 0.5:
        toleration: Obj = {"key": "t", "operator": "Equal", "value": chance.choice("xy")}
        if chance.random() < 0.3:
            toleration = {"operator": "Exists", "effect": chance.choice(["NoSchedule", "NoExecute"])}
        spec["tolerations"] = [toleration]
    if chance.random() < 0.4:
        spec["topologySpreadConstraints"] = [_constraint(chance) for _ in range(chance.randint(1, 2))]
    namespace = chance.choice(["default", "other"])
    if world is not None and world.claims and chance.random() < 0.4:
        namespace = "default"
        names = chance.sample([one["metadata"]["name"] for one in world.claims] + ["missing"], chance.randint(1, 2))
        spec["volumes"] = [{"name": one, "persistentVolumeClaim": {"claimName": one}} for one in names]
    if world is not None and world.device_claims and chance.random() < 0.3:
        namespace = "default"
        name = chance.choice(world.device_claims)["metadata"]["name"]
        spec["resourceClaims"] = [{"name": "d", "resourceClaimName": name}]
    requests = {"cpu": str(chance.randint(0, 2))}
    if chance.random() < 0.5:
        requests["memory"] = f"{chance.randint(1, 3)}Gi"
    if chance.random() < 0.15:
        requests["example.com/gpu"] = "1"
    container: Obj = {"resources": {"requests": {name: text for name, text in requests.items() if text != "0"}}}
    if chance.random() < 0.15:
        host_ip = chance.choice(["", "10.0.0.1", "10.0.0.2"])
        port = {"containerPort": 80, "hostPort": chance.choice([80, 81]), "protocol": chance.choice(["TCP", "UDP"])}
        container["ports"] = [{**port, **({"hostIP": host_ip} if host_ip else {})}]
    if chance.random() < 0.1:
        rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [3]}}
        container["restartPolicyRules"] = [rule]
    labels = {"app": chance.choice("wxy"), "version": chance.choice("12")}
    made = pod(f"p{number}", labels=labels, namespace=namespace, container=container, **spec)
    made["status"]["startTime"] = f"2026-01-01T00:00:{number:02}Z"
    return made


def resize(chance: random.Random, pod: Obj) -> Obj:
    """Returns a placed pod in the middle of a resize."""
    wanted = pod["spec"]["containers"][0]["resources"]["requests"]

    def other() -> Obj:
        return {**wanted, **({"cpu": str(chance.randint(1, 4))} if "cpu" in wanted else {})}

    said = {"name": "c", "resources": {"requests": other()}, "allocatedResources": other()}
    status = {**pod["status"], "containerStatuses": [said], "conditions": []}
    if chance.random() < 0.3:
        status["conditions"] = [{"type": "PodResizePending", "status": "True", "reason": "Infeasible"}]
    return {**pod, "status": status}


def random_world(chance: random.Random) -> World:
    """Nodes, volumes and devices, no pods yet."""
    world = World(
        nodes=[random_node(chance, number) for number in range(chance.randint(1, 9))],
        namespaces=NAMESPACES,
        classes=[LATE, LOCAL],
    )
    world.devices_serve_gpus = chance.random() < 0.5
    names = [one["metadata"]["name"] for one in world.nodes]
    for number in range(6):
        world.volumes.append(_volume(chance, number, names))
    for number in range(6):
        world.claims.append(_claim(chance, number))
    for name in names:
        if chance.random() < 0.5:
            driver = {"name": "csi.example.com", "nodeID": name, "allocatable": {"count": chance.randint(1, 2)}}
            world.csi_nodes.append({"metadata": {"name": name}, "spec": {"drivers": [driver]}})
        if chance.random() < 0.6:
            world.device_slices.append(_slice(chance, name))
    for number in range(3):
        world.device_claims.append(_device_claim(chance, number, world.device_slices))
    return world


def _volume(chance: random.Random, number: int, names: list[str]) -> Obj:
    volume: Obj = {
        "metadata": {"name": f"v{number}", "labels": {}},
        "spec": {
            "accessModes": ["ReadWriteOnce", "ReadWriteOncePod"],
            "capacity": {"storage": f"{chance.randint(1, 3)}Gi"},
            "storageClassName": chance.choice(["local", "local", "fixed"]),
        },
        "status": {"phase": "Available"},
    }
    if chance.random() < 0.6:
        terms = [
            {
                "matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": chance.sample(names, 1)}
                ]
            }
        ]
        volume["spec"]["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
    if chance.random() < 0.3:
        volume["metadata"]["labels"][ZONE] = chance.choice(["a", "b", "a__c"])
    if chance.random() < 0.5:
        volume["spec"]["csi"] = {"driver": "csi.example.com", "volumeHandle": f"h{number}"}
    return volume


def _claim(chance: random.Random, number: int) -> Obj:
    spec: Obj = {
        "accessModes": [chance.choice(["ReadWriteOnce", "ReadWriteOncePod"])],
        "storageClassName": chance.choice(["late", "local", "fixed"]),
        "resources": {"requests": {"storage": f"{chance.randint(1, 3)}Gi"}},
    }
    meta: Obj = {"name": f"c{number}", "namespace": "default", "annotations": {}}
    if spec["storageClassName"] == "fixed":
        spec["volumeName"] = f"v{chance.randint(0, 7)}"
        meta["annotations"]["pv.kubernetes.io/bind-completed"] = "yes"
    return {"kind": "PersistentVolumeClaim", "metadata": meta, "spec": spec, "status": {}}


def _slice(chance: random.Random, name: str) -> Obj:
    devices = [
        {"name": f"d{n}", "attributes": {"size": {"int": chance.randint(1, 3)}}} for n in range(chance.randint(1, 4))
    ]
    pool = {"name": name, "generation": 1, "resourceSliceCount": 1}
    spec = {"driver": DRIVER, "nodeName": name, "pool": pool, "devices": devices}
    return {"kind": "ResourceSlice", "metadata": {"name": f"s-{name}"}, "spec": spec}


def _device_claim(chance: random.Random, number: int, slices: list[Obj]) -> Obj:
    def request(name: str) -> Obj:
        expression = f"device.attributes['{DRIVER}'].size >= {chance.randint(1, 3)}"
        exactly = {
            "deviceClassName": "any",
            "allocationMode": "ExactCount",
            "count": chance.randint(1, 2),
            "selectors": [{"cel": {"expression": expression}}],
        }
        return {"name": name, "exactly": exactly}

    devices: Obj = {"requests": [request(f"r{n}") for n in range(chance.randint(1, 2))]}
    if chance.random() < 0.5:
        devices["constraints"] = [{chance.choice(["matchAttribute", "distinctAttribute"]): f"{DRIVER}/size"}]
    status: Obj = {}
    if slices and chance.random() < 0.3:
        where = chance.choice(slices)["spec"]
        result = {"driver": DRIVER, "pool": where["nodeName"], "device": "d0", "request": "r0"}
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [where["nodeName"]]}]}
        status["allocation"] = {"devices": {"results": [result]}, "nodeSelector": {"nodeSelectorTerms": [term]}}
    meta = {"name": f"dc{number}", "namespace": "default"}
    return {"kind": "ResourceClaim", "metadata": meta, "spec": {"devices": devices}, "status": status}


def columns_of(world: World) -> Columns:
    """Returns the same cluster in columns."""
    columns = cluster(world.nodes, world.placed)
    for name, labels in world.namespaces.items():
        columns.set_namespace(name, labels)
    storage = (world.claims, world.volumes, world.classes, world.csi_nodes)
    columns.storage = Storage(*map(Objects, storage))
    device_class: Obj = {"metadata": {"name": "any"}, "spec": {}}
    if world.devices_serve_gpus:
        device_class["spec"]["extendedResourceName"] = "example.com/gpu"
    columns.devices = Devices(Objects(world.device_claims), Objects([device_class]), Objects(world.device_slices))
    return columns
