"""Metadata that all objects share: what the server fills in and refuses."""

from __future__ import annotations

from typing import Any

import pytest

from proa.meta import metadata, names

LONG = "x" * 63


def paths(meta: dict[str, Any], **options: Any) -> list[str]:
    meta = {"name": "a", "namespace": "n"} | meta
    errors = metadata.validate_create({"metadata": meta}, True, names.dns1123_subdomain, **options)
    return [error.path.removeprefix("metadata.") for error in errors]


@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({}, []),
        ({"name": ""}, ["name"]),
        ({"name": "A"}, ["name"]),
        ({"generateName": "web."}, ["generateName"]),
        ({"namespace": ""}, ["namespace"]),
        ({"generation": -1}, ["generation"]),
        ({"labels": {"a b": "c", "d": "-"}}, ["labels", "labels"]),
        ({"annotations": {"A/b": "any text"}}, []),
        ({"annotations": {"a": "x" * 2**18}}, ["annotations"]),
        ({"finalizers": ["bare"]}, ["finalizers[0]"]),
        ({"finalizers": ["a/b/c"]}, ["finalizers"]),
        ({"finalizers": ["orphan", "foregroundDeletion"]}, ["finalizers"]),
        ({"ownerReferences": [{}]}, [f"ownerReferences.{key}" for key in ("apiVersion", "kind", "name", "uid")]),
        (
            {"ownerReferences": [{"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "x"}]},
            ["ownerReferences"],
        ),
        (
            {"managedFields": [{"operation": "Odd", "manager": "\n"}]},
            ["managedFields[0].operation", "managedFields[0].manager"],
        ),
    ],
)
def test_create(meta: dict[str, Any], expected: list[str]) -> None:
    assert paths(meta) == expected


def test_custom_resources_may_have_bare_finalizers() -> None:
    assert paths({"finalizers": ["bare"]}, builtin=False) == []
    assert len(metadata.finalizer_warnings(["bare", "orphan", "a.b/c"])) == 1


def test_two_controllers_are_refused() -> None:
    owners = [{"apiVersion": "v1", "kind": "Pod", "name": n, "uid": f"u{n}", "controller": True} for n in "ab"]
    (error,) = metadata.validate_owner_references(owners, "metadata.ownerReferences")
    assert error.detail.endswith('Found "true" in references for Pod/a and Pod/b')


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, []),
        ({"resourceVersion": ""}, ["resourceVersion"]),
        ({"uid": "other", "name": "b"}, ["name", "uid"]),
        ({"generation": 1}, ["generation"]),
        ({"deletionTimestamp": "2020-01-01T00:00:00Z"}, ["deletionTimestamp"]),
    ],
)
def test_update(changed: dict[str, Any], expected: list[str]) -> None:
    old = {"name": "a", "namespace": "n", "uid": "u", "resourceVersion": "5", "generation": 2}
    errors = metadata.validate_update({"metadata": old | changed}, {"metadata": old})
    assert [error.path.removeprefix("metadata.") for error in errors] == expected


def test_no_finalizer_can_be_added_while_deleting() -> None:
    old = {"name": "a", "resourceVersion": "5", "deletionTimestamp": "2020-01-01T00:00:00Z", "finalizers": ["a/b"]}
    errors = metadata.validate_update({"metadata": old | {"finalizers": ["x/z", "x/y", "a/b"]}}, {"metadata": old})
    assert [error.detail.partition("found ")[2] for error in errors] == ['new finalizers []string{"x/y", "x/z"}']


def test_server_fills_in_a_new_object() -> None:
    obj = {
        "metadata": {"generateName": LONG, "uid": "mine", "deletionTimestamp": "x", "selfLink": "y", "generation": 9}
    }
    metadata.prepare_create(obj, now="2026-01-01T00:00:00Z", uid="u", suffix="abcde")
    assert obj["metadata"] == {
        "generateName": LONG,
        "name": "x" * 58 + "abcde",
        "uid": "u",
        "generation": 9,
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }


def test_update_carries_over_what_the_server_owns() -> None:
    obj: dict[str, Any] = {"metadata": {"name": "a", "generation": 50}}
    metadata.prepare_update(
        obj, {"metadata": {"name": "a", "uid": "u", "creationTimestamp": "t", "deletionTimestamp": "d"}}
    )
    assert obj["metadata"] == {"name": "a", "uid": "u", "creationTimestamp": "t", "deletionTimestamp": "d"}


def test_repeated_owners_are_dropped_with_a_warning() -> None:
    owner = {"uid": "1", "name": "o"}
    obj = {"metadata": {"ownerReferences": [owner, dict(owner), {"uid": "2"}]}}
    (warning,) = metadata.drop_duplicate_owners(obj)
    assert warning.endswith("duplicate UID(s) observed: 1")
    assert obj["metadata"]["ownerReferences"] == [owner, {"uid": "2"}]
    assert metadata.drop_duplicate_owners(obj) == []
