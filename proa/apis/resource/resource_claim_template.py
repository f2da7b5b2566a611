"""ResourceClaimTemplate, as of resource.k8s.io/v1: from which each pod gets a claim of its own."""

from __future__ import annotations

from proa.apis import fields
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.registry import Strategy
from proa.apis.resource.device_class import cells
from proa.apis.resource.devices import claim_spec, default_claim_spec
from proa.apis.shape import child
from proa.meta.errors import invalid_field
from proa.meta.metadata import validate_annotations, validate_labels
from proa.meta.objects import Obj


class ResourceClaimTemplateStrategy(Strategy):
    def default(self, obj: Obj) -> None:
        spec = child(obj, "spec")
        child(spec, "metadata")
        default_claim_spec(child(spec, "spec"))

    def validate(self, obj: Obj) -> Errors:
        spec = obj.get("spec") or {}
        meta = spec.get("metadata") or {}
        errors = validate_labels(meta.get("labels") or {}, "spec.metadata.labels")
        errors += validate_annotations(meta.get("annotations") or {}, "spec.metadata.annotations")
        return errors + claim_spec(spec.get("spec") or {}, "spec.spec")

    def validate_update(self, obj: Obj, old: Obj) -> Errors:
        if fields.same(obj.get("spec"), old.get("spec")):
            return []
        return [invalid_field("spec", obj.get("spec"), fields.IMMUTABLE)]


RESOURCE_CLAIM_TEMPLATE = resource(
    "resource.k8s.io",
    "v1",
    "ResourceClaimTemplate",
    "resourceclaimtemplates",
    columns=columns("Name", "Age"),
    cells=cells,
    strategy=ResourceClaimTemplateStrategy(),
    storage_version_hash="TuzjC49aUfM=",
)
