"""Access reviews answer as the requests themselves do."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.conformance.conftest import Api
from tests.cluster.conformance.objects import core

pytestmark = pytest.mark.cluster

GROUP = "/apis/authorization.k8s.io/v1"


@pytest.mark.behaviour("[sig-auth] SubjectReview should support SubjectReview API operations")
def test_reviews_and_requests_agree(api: Api, namespace: str) -> None:
    account = api.post(core(namespace, "serviceaccounts"), {"metadata": {"name": "e2e"}}).ok()
    user = f"system:serviceaccount:{namespace}:e2e"
    groups = ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    uid = account["metadata"]["uid"]
    attributes = {"verb": "list", "resource": "configmaps", "namespace": namespace, "version": "v1"}

    def review(name: str) -> dict[str, Any]:
        return {"spec": {"resourceAttributes": attributes, "user": name, "groups": groups, "uid": uid}}

    def allowed(path: str, name: str) -> bool:
        return bool(api.post(path, review(name)).ok()["status"]["allowed"])

    def answered() -> int:
        # A header that repeats: http.client takes the list as lines of one request.
        connection = api.connect()
        try:
            connection.putrequest("GET", core(namespace, "configmaps"))
            connection.putheader("Impersonate-User", user)
            connection.putheader("Impersonate-Uid", uid)
            for group in groups:
                connection.putheader("Impersonate-Group", group)
            connection.endheaders()
            return connection.getresponse().status
        finally:
            connection.close()

    local = f"{GROUP}/namespaces/{namespace}/localsubjectaccessreviews"
    assert not allowed(f"{GROUP}/subjectaccessreviews", user) and answered() == 403
    assert not allowed(local, "e2e")
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}]
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    api.post(f"{rbac}/roles", {"metadata": {"name": "lister"}, "rules": rules}).ok()
    binding = {
        "metadata": {"name": "lister"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lister"},
        "subjects": [{"kind": "ServiceAccount", "name": "e2e", "namespace": namespace}],
    }
    api.post(f"{rbac}/rolebindings", binding).ok()
    assert allowed(f"{GROUP}/subjectaccessreviews", user) and answered() == 200
    assert allowed(local, user) and not allowed(local, "e2e")
