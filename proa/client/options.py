"""Client options as the wire has them: query parameters and DeleteOptions; lists as `ObjectList`."""

from __future__ import annotations

from proa.client.interface import DeleteOptions, ListOptions, ObjectList
from proa.meta.objects import Obj


def list_parameters(options: ListOptions, *, watch: bool = False) -> dict[str, str]:
    """Returns the query parameters of a list or watch."""
    found: dict[str, str] = {"watch": "true"} if watch else {}
    texts = {
        "labelSelector": options.label_selector,
        "fieldSelector": options.field_selector,
        "resourceVersion": options.resource_version,
        "resourceVersionMatch": options.resource_version_match,
        "continue": options.continue_token,
        "limit": str(options.limit) if options.limit else "",
        "timeoutSeconds": "" if options.timeout_seconds is None else str(options.timeout_seconds),
        "allowWatchBookmarks": "true" if options.allow_watch_bookmarks else "",
        "sendInitialEvents": "" if options.send_initial_events is None else str(options.send_initial_events).lower(),
    }
    found.update((name, text) for name, text in texts.items() if text)
    return found


def delete_body(options: DeleteOptions) -> Obj:
    """Returns the DeleteOptions object that a delete carries."""
    body: Obj = {"kind": "DeleteOptions", "apiVersion": "v1"}
    if options.grace_seconds is not None:
        body["gracePeriodSeconds"] = options.grace_seconds
    if options.propagation is not None:
        body["propagationPolicy"] = options.propagation
    preconditions = {"uid": options.uid, "resourceVersion": options.resource_version}
    if any(preconditions.values()):
        body["preconditions"] = {name: value for name, value in preconditions.items() if value}
    if options.dry_run:
        body["dryRun"] = ["All"]
    return body


def write_parameters(field_manager: str, dry_run: bool, force: bool = False) -> dict[str, str]:
    """Returns the query parameters of a create, update or patch."""
    found: dict[str, str] = {}
    if field_manager:
        found["fieldManager"] = field_manager
    if dry_run:
        found["dryRun"] = "All"
    if force:
        found["force"] = "true"
    return found


def object_list(listing: Obj) -> ObjectList:
    """Reads a List object. Items of a list carry no kind on the wire; each gets the list's, in an object of its own."""
    kind = str(listing.get("kind") or "").removesuffix("List")
    api_version = listing.get("apiVersion") or ""
    meta = listing.get("metadata") or {}
    items = [
        item if "kind" in item else {"kind": kind, "apiVersion": api_version, **item}
        for item in listing.get("items") or []
    ]
    return ObjectList(
        items, meta.get("resourceVersion") or "", meta.get("continue") or "", meta.get("remainingItemCount")
    )
