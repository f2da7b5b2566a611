"""A class of volumes' attributes stays as long as a volume or a claim has it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proa.apis.core.claims import attributes_classes_of
from proa.client.resources import PERSISTENTVOLUMES, VOLUMEATTRIBUTESCLASSES
from proa.meta.objects import Obj
from tests.controllers.plane import plane, run


@pytest.mark.parametrize(
    ("obj", "names"),
    [
        ({"spec": {}}, []),
        ({"spec": {"volumeAttributesClassName": "a"}}, ["a"]),
        (
            {
                "spec": {"volumeAttributesClassName": "c"},
                "status": {
                    "currentVolumeAttributesClassName": "b",
                    "modifyVolumeStatus": {"status": "Pending", "targetVolumeAttributesClassName": "a"},
                },
            },
            ["a", "b", "c"],
        ),
    ],
)
def test_which_classes_are_in_use(obj: Obj, names: list[str]) -> None:
    assert attributes_classes_of(obj) == names


def test_a_class_in_use_stays() -> None:
    async def main() -> None:
        async with plane(("volumeattributesclass-protection",)) as cluster:
            gold: dict[str, Any] = {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "VolumeAttributesClass",
                "metadata": {"name": "gold"},
                "driverName": "d.example.com",
                "parameters": {"iops": "1"},
            }
            await cluster.client.create(VOLUMEATTRIBUTESCLASSES, gold)
            volume = {
                "apiVersion": "v1",
                "kind": "PersistentVolume",
                "metadata": {"name": "v"},
                "spec": {
                    "capacity": {"storage": "1Gi"},
                    "accessModes": ["ReadWriteOnce"],
                    "csi": {"driver": "d.example.com", "volumeHandle": "h"},
                    "volumeAttributesClassName": "gold",
                },
            }
            await cluster.client.create(PERSISTENTVOLUMES, volume)
            await cluster.client.delete(VOLUMEATTRIBUTESCLASSES, "gold")
            await asyncio.sleep(10)
            assert (await cluster.client.get(VOLUMEATTRIBUTESCLASSES, "gold"))["metadata"]["deletionTimestamp"]
            await cluster.patch(PERSISTENTVOLUMES, "v", {"metadata": {"finalizers": None}}, "")
            await cluster.client.delete(PERSISTENTVOLUMES, "v")
            await cluster.gone(VOLUMEATTRIBUTESCLASSES, "gold", "")

    run(main)
