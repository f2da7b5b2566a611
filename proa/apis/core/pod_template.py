"""PodTemplate: a template on its own, which nothing uses but which clients may keep. Follows upstream's
`pkg/registry/core/podtemplate`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from proa.apis.apps.workloads import containers_cells
from proa.apis.define import columns, resource
from proa.apis.fields import Errors
from proa.apis.podspec.defaults import default_pod_spec
from proa.apis.podspec.validate import pod_template
from proa.apis.podspec.warnings import template_warnings
from proa.apis.registry import Strategy
from proa.apis.tables import labels_text
from proa.meta.objects import Obj, name_of


class PodTemplateStrategy(Strategy):
    generation = True

    def default(self, obj: Obj) -> None:
        default_pod_spec(obj.setdefault("template", {}).setdefault("spec", {}))

    def validate(self, obj: Obj) -> Errors:
        return pod_template(obj.get("template") or {}, "template")

    def warnings(self, obj: Obj, old: Obj | None) -> list[str]:
        if old is not None and obj.get("template") == old.get("template"):
            return []
        return template_warnings(obj.get("template"), "template")


def _cells(obj: Obj, now: datetime) -> list[Any]:
    template = obj.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels")
    return [name_of(obj), *containers_cells(template), labels_text(labels)]


POD_TEMPLATE = resource(
    "",
    "v1",
    "PodTemplate",
    "podtemplates",
    columns=columns("Name", "Containers", "Images", "Pod Labels"),
    cells=_cells,
    strategy=PodTemplateStrategy(),
    storage_version_hash="LIXB2x4IFpk=",
)
