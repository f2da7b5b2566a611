"""CRI v1's messages, as protobuf classes made from the table in `fields.json` when the module is first imported.

The table states names, numbers and types of the container runtime interface (`runtime.v1`, upstream's
`k8s.io/cri-api`); parts that the kubelet does not use are left out; protobuf skips unknown fields. Making the
classes here, instead of committing generated code, keeps one readable source and fits every protobuf version.
A message takes plain data: `message("RunPodSandboxRequest")(config={"metadata": {"name": "a"}})`.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

Field = descriptor_pb2.FieldDescriptorProto

_SCALARS = {
    "string": Field.TYPE_STRING,
    "bool": Field.TYPE_BOOL,
    "bytes": Field.TYPE_BYTES,
    "int32": Field.TYPE_INT32,
    "int64": Field.TYPE_INT64,
    "uint32": Field.TYPE_UINT32,
    "uint64": Field.TYPE_UINT64,
    "double": Field.TYPE_DOUBLE,
}


class Method(NamedTuple):
    """One call of a service: its path on the wire, its messages, and whether the answer is a stream."""

    path: str
    request: Any
    response: Any
    streams: bool


@cache
def _table() -> dict[str, Any]:
    return json.loads(Path(__file__).with_name("fields.json").read_bytes())  # type: ignore[no-any-return]


@cache
def _pool() -> Any:
    table = _table()
    file = descriptor_pb2.FileDescriptorProto(name="proa/cri.proto", package=table["package"], syntax="proto3")
    for name, values in table["enums"].items():
        enum = file.enum_type.add(name=name)
        for key, number in values.items():
            enum.value.add(name=key, number=number)
    for name, fields in table["messages"].items():
        _add_message(file.message_type.add(name=name), name, fields, table)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def _add_message(into: Any, name: str, fields: dict[str, list[Any]], table: dict[str, Any]) -> None:
    for field_name, (number, type_name, *rest) in fields.items():
        field = into.field.add(name=field_name, number=number, label=Field.LABEL_OPTIONAL)
        if type_name.startswith("map<"):
            entry_name = "".join(part.capitalize() for part in field_name.split("_")) + "Entry"
            entry = into.nested_type.add(name=entry_name)
            entry.options.map_entry = True
            key, value = type_name[4:-1].split(",")
            _set_type(entry.field.add(name="key", number=1, label=Field.LABEL_OPTIONAL), key, table)
            _set_type(entry.field.add(name="value", number=2, label=Field.LABEL_OPTIONAL), value, table)
            field.label = Field.LABEL_REPEATED
            field.type, field.type_name = Field.TYPE_MESSAGE, f".{table['package']}.{name}.{entry_name}"
            continue
        if rest:
            field.label = Field.LABEL_REPEATED
        _set_type(field, type_name, table)


def _set_type(field: Any, type_name: str, table: dict[str, Any]) -> None:
    if type_name in _SCALARS:
        field.type = _SCALARS[type_name]
    else:
        field.type = Field.TYPE_ENUM if type_name in table["enums"] else Field.TYPE_MESSAGE
        field.type_name = f".{table['package']}.{type_name}"


@cache
def message(name: str) -> Any:
    """Returns the class of the named message; raises KeyError for an unknown name."""
    return message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{_table()['package']}.{name}"))


@cache
def methods(service: str) -> dict[str, Method]:
    """Returns the calls of `RuntimeService` or `ImageService` by name."""
    table = _table()
    prefix = f"/{table['package']}.{service}/"
    return {
        name: Method(prefix + name, message(request), message(response.removeprefix("stream ")), "stream " in response)
        for name, (request, response) in table["services"][service].items()
    }
