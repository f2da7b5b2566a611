"""Writes to APIServices by the API server itself; two servers that write the same do not disturb each other."""

from __future__ import annotations

import contextlib

from proa.apiserver.aggregator.plan import Verdict, with_verdict
from proa.apiserver.api import Core
from proa.apiserver.generic.deletion import DeleteRequest, delete
from proa.apiserver.generic.shared import Call
from proa.client.interface import UserInfo
from proa.client.resources import APISERVICES
from proa.meta.errors import StatusError, not_found
from proa.meta.objects import Obj, copy_object, name_of
from proa.util.clock import rfc3339

_USER = UserInfo("system:apiserver", ("system:masters",))


class ApiServiceWriter:
    def __init__(self, core: Core) -> None:
        self._core = core
        self._resource = core.resources.get(APISERVICES)
        self._store = core.store(self._resource)

    async def create(self, obj: Obj) -> None:
        """Creates an APIService unless it exists."""
        made = copy_object(obj)
        made |= {"kind": self._resource.kind, "apiVersion": self._resource.api_version}
        try:
            await self._store.create(Call(user=_USER, name=name_of(obj)), made)
        except StatusError as error:
            if error.reason != "AlreadyExists":
                raise

    async def update_spec(self, obj: Obj) -> None:
        """Gives an APIService the spec of `obj`, if it is still there."""

        async def produce(old: Obj | None) -> Obj:
            return {**self._existing(old, name_of(obj)), "spec": copy_object(obj["spec"])}

        with contextlib.suppress(StatusError):
            await self._store.update(Call(user=_USER, name=name_of(obj)), produce)

    async def delete(self, name: str) -> None:
        with contextlib.suppress(StatusError):
            await delete(self._store, Call(user=_USER, name=name), DeleteRequest())

    async def judge(self, name: str, verdict: Verdict) -> None:
        """Writes the condition Available, if it says something else; raises StatusErrors, none if it is gone."""
        now = rfc3339(self._core.shared.clock.now())

        async def produce(old: Obj | None) -> Obj:
            obj = self._existing(old, name)
            conditions = with_verdict(obj, verdict, now)
            if conditions is None:
                return obj
            return {**obj, "status": {**(obj.get("status") or {}), "conditions": conditions}}

        try:
            call = Call(user=_USER, name=name, subresource="status")
            await self._store.update(call, produce, sub=self._resource.subresource("status"))
        except StatusError as error:
            if error.code != 404:
                raise

    @staticmethod
    def _existing(old: Obj | None, name: str) -> Obj:
        if old is None:
            raise not_found(APISERVICES, name)
        copied: Obj = copy_object(old)
        return copied
