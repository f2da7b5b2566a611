"""The field table as google's protobuf runtime sees it: an independent reader and writer of the same wire."""

from __future__ import annotations

from functools import cache
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from proa.meta.codec.protobuf_messages import table

_SCALARS = {"string": 9, "bytes": 12, "int32": 5, "int64": 3, "bool": 8, "double": 1}
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3


def flat(package: str, name: str) -> str:
    """All messages share one package here, under names that say where they are from."""
    return f"{package}.{name}".replace(".", "_")


def _typed(field: Any, package: str, kind: str) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
        return
    if kind.startswith("."):
        package, _, kind = kind[1:].rpartition(".")
    field.type, field.type_name = _MESSAGE, f".k8s.{flat(package, kind)}"


def _add_field(message: Any, package: str, key: str, number: int, kind: str, repeated: bool) -> None:
    field = message.field.add(name=key, number=number, label=_REPEATED if repeated else _OPTIONAL)
    if not kind.startswith("map<"):
        _typed(field, package, kind)
        return
    first, _, second = kind[4:-1].partition(",")
    entry = message.nested_type.add(name=f"{key[:1].upper()}{key[1:]}Entry")
    entry.options.map_entry = True
    _add_field(entry, package, "key", 1, first.strip(), False)
    _add_field(entry, package, "value", 2, second.strip(), False)
    field.label, field.type = _REPEATED, _MESSAGE
    field.type_name = f".k8s.{message.name}.{entry.name}"


@cache
def _pool() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="k8s.proto", package="k8s", syntax="proto2")
    for package, messages in table().items():
        for name, fields in messages.items():
            message = file.message_type.add(name=flat(package, name))
            for key, (number, kind, *repeated) in fields.items():
                _add_field(message, package, key, number, kind, bool(repeated))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


@cache
def message_class(package: str, name: str) -> Any:
    """Returns google's class for one of Kubernetes' messages."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"k8s.{flat(package, name)}"))
