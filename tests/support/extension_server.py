"""An extension API server as its authors write them, on Python's standard library alone: it runs in a pod as well as in
a test's process.

It serves `flunders` of wardle.example.com/v1alpha1: kept in memory, with watch, selectors, patches and an upgrade that
echoes. It takes no port but HTTPS, learns from kube-system/extension-apiserver-authentication whose front proxy to
believe, and asks the API server by SubjectAccessReview what the users that the proxy names may do.

In a pod: `python3 extension_server.py` with tls.crt and tls.key in /certificates.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import queue
import ssl
import struct
import threading
import urllib.parse
import uuid
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

GROUP, VERSION = "wardle.example.com", "v1alpha1"
GROUP_VERSION = f"{GROUP}/{VERSION}"
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


class Api:
    """The API server, as a service account sees it."""

    def __init__(self, address, authority, token):
        self.address, self.token = address, token
        self.context = ssl.create_default_context(cadata=authority)

    def call(self, method, path, body=None):
        connection = http.client.HTTPSConnection(self.address, timeout=30, context=self.context)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            decoded = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {decoded}")
        return decoded

    def may(self, user, verb, path, resource=None):
        spec = {"user": user["name"], "groups": user["groups"], "extra": user["extra"], "uid": user["uid"]}
        if resource:
            spec["resourceAttributes"] = {"verb": verb, "group": GROUP, "version": VERSION, **resource}
        else:
            spec["nonResourceAttributes"] = {"verb": verb, "path": path}
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
        return self.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]


class Failure(Exception):
    def __init__(self, code, reason, message):
        super().__init__(message)
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }


class Store:
    """Objects by namespace and name, one log of changes, and who follows it."""

    def __init__(self):
        self.lock = threading.RLock()
        self.revision = 0
        self.objects = {}
        self.log = []
        self.followers = []

    def put(self, kind, obj):
        self.revision += 1
        obj["metadata"]["resourceVersion"] = str(self.revision)
        meta = obj["metadata"]
        if kind == "DELETED":
            del self.objects[meta["namespace"], meta["name"]]
        else:
            self.objects[meta["namespace"], meta["name"]] = obj
        event = (self.revision, {"type": kind, "object": json.loads(json.dumps(obj))})
        self.log.append(event)
        for follower in self.followers:
            follower.put(event)
        return obj


def merged(target, patch):
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def selected(obj, query):
    labels = obj["metadata"].get("labels") or {}
    wanted = [part.split("=", 1) for part in query.get("labelSelector", "").split(",") if "=" in part]
    names = [part.split("=", 1)[1] for part in query.get("fieldSelector", "").split(",") if "metadata.name=" in part]
    return all(labels.get(key) == value for key, value in wanted) and all(obj["metadata"]["name"] == n for n in names)


def resource_list():
    common = {"namespaced": True, "kind": "Flunder"}
    flunders = {"name": "flunders", "singularName": "flunder", **common, "verbs": VERBS, "shortNames": ["fl"]}
    status = {"name": "flunders/status", "singularName": "", **common, "verbs": ["get", "patch", "update"]}
    listed = [flunders, status]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": GROUP_VERSION, "resources": listed}


def openapi_v2():
    gvk = {"group": GROUP, "version": VERSION, "kind": "Flunder"}
    name = "com.example.wardle.v1alpha1.Flunder"
    reference = {"$ref": f"#/definitions/{name}"}
    path = f"/apis/{GROUP_VERSION}/namespaces/{{namespace}}/flunders"
    operation = {
        "operationId": "createFlunder",
        "consumes": ["*/*"],
        "produces": ["application/json"],
        "parameters": [{"name": "body", "in": "body", "required": True, "schema": reference}],
        "responses": {"201": {"description": "Created", "schema": reference}},
        "x-kubernetes-action": "post",
        "x-kubernetes-group-version-kind": gvk,
    }
    parameters = [{"name": "namespace", "in": "path", "required": True, "type": "string"}]
    described = {"type": "string", "description": "refers to another object"}
    spec = {"type": "object", "properties": {"reference": described}}
    meta = {"$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"}
    return {
        "swagger": "2.0",
        "info": {"title": "wardle", "version": "v1"},
        "paths": {path: {"post": operation, "parameters": parameters}, "/healthz": {}},
        "definitions": {
            name: {
                "description": "Flunder is an example.",
                "type": "object",
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "metadata": meta,
                    "spec": {"$ref": "#/definitions/com.example.wardle.v1alpha1.FlunderSpec"},
                },
                "x-kubernetes-group-version-kind": [gvk],
            },
            "com.example.wardle.v1alpha1.FlunderSpec": spec,
            # Not what the API server means by this name: the two have to be told apart.
            "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "namespace": {"type": "string"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                },
            },
            "com.example.Unused": {"type": "object"},
        },
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    # ------------------------------------------------------------ HTTP

    def _read(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, code, body, content_type="application/json", headers=()):
        encoded = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(encoded)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(encoded)

    def _chunk(self, data):
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.flush()

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (ConnectionError, ssl.SSLError):
            self.close_connection = True

    def _answer(self):
        if self.server.gone:
            raise ConnectionResetError
        try:
            if not self._upgrade_asked():
                self.body = self._read()
            self._route()
        except Failure as failure:
            self._send(failure.status["code"], failure.status)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

    def _upgrade_asked(self):
        return bool(self.headers.get("Upgrade"))

    # ------------------------------------------------------------ identity

    def _user(self):
        """Returns whom the front proxy speaks for; nobody else is let in."""
        certificate = self.connection.getpeercert()
        names = [value for part in (certificate or {}).get("subject", ()) for key, value in part if key == "commonName"]
        if not set(names) & set(self.server.allowed_names):
            raise Failure(401, "Unauthorized", "Unauthorized")
        extra = {}
        for key in self.headers:
            if key.lower().startswith("x-remote-extra-"):
                name = urllib.parse.unquote(key[len("x-remote-extra-") :]).lower()
                extra[name] = self.headers.get_all(key)
        return {
            "name": self.headers.get("X-Remote-User", ""),
            "groups": self.headers.get_all("X-Remote-Group") or [],
            "uid": self.headers.get("X-Remote-Uid", ""),
            "extra": extra,
        }

    # ------------------------------------------------------------ routes

    def _route(self):
        path, _, query = self.path.partition("?")
        self.query = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        user = self._user()
        self.server.seen.append({"method": self.command, "path": path, "user": user, "headers": dict(self.headers)})
        base = f"/apis/{GROUP_VERSION}"
        if path == base:
            return self._send(200, resource_list())
        if path == "/openapi/v2":
            return self._openapi()
        parts = path.removeprefix(base).strip("/").split("/")
        if not path.startswith(f"{base}/"):
            raise Failure(404, "NotFound", "the server could not find the requested resource")
        namespace, parts = (parts[1], parts[2:]) if parts[0] == "namespaces" else ("", parts)
        name, sub = (parts[1] if len(parts) > 1 else ""), (parts[2] if len(parts) > 2 else "")
        verb = self._verb(name)
        wanted = {"resource": "flunders", "namespace": namespace, "name": name, "subresource": sub}
        if not self.server.api.may(user, verb, path, wanted):
            where = f' in API group "{GROUP}" in the namespace "{namespace}"'
            text = f'flunders.{GROUP} is forbidden: User "{user["name"]}" cannot {verb} resource "flunders"{where}'
            raise Failure(403, "Forbidden", text)
        if sub == "echo":
            return self._echo()
        if sub == "slow":
            self.server.slow.wait(60)
            return self._send(200, {})
        if sub == "redirect":
            return self._send(302, b"", "text/plain", [("Location", "https://127.0.0.1/elsewhere")])
        return getattr(self, f"_{verb}")(namespace, name, sub)

    def _verb(self, name):
        if self.command in ("GET", "HEAD"):
            if self.query.get("watch") in ("true", "1"):
                return "watch"
            return "get" if name else "list"
        verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
        verb = verbs[self.command]
        return "deletecollection" if verb == "delete" and not name else verb

    def _openapi(self):
        body = json.dumps(openapi_v2()).encode()
        tag = f'"{hashlib.sha256(body).hexdigest()}"'
        if self.headers.get("If-None-Match") == tag:
            return self._send(304, b"", headers=[("ETag", tag)])
        return self._send(200, body, headers=[("ETag", tag)])

    # ------------------------------------------------------------ verbs

    def _existing(self, namespace, name):
        found = self.server.store.objects.get((namespace, name))
        if found is None:
            raise Failure(404, "NotFound", f'flunders.{GROUP} "{name}" not found')
        return found

    def _get(self, namespace, name, sub):
        self._send(200, self._existing(namespace, name))

    def _matching(self, namespace):
        listed = self.server.store.objects.items()
        return [one for (where, _), one in listed if namespace in ("", where) and selected(one, self.query)]

    def _list(self, namespace, name, sub):
        with self.server.store.lock:
            items = self._matching(namespace)
            meta = {"resourceVersion": str(self.server.store.revision)}
            self._send(200, {"kind": "FlunderList", "apiVersion": GROUP_VERSION, "metadata": meta, "items": items})

    def _create(self, namespace, name, sub):
        obj = json.loads(self.body)
        meta = obj.setdefault("metadata", {})
        with self.server.store.lock:
            if (namespace, meta["name"]) in self.server.store.objects:
                raise Failure(409, "AlreadyExists", f'flunders.{GROUP} "{meta["name"]}" already exists')
            now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            meta |= {"namespace": namespace, "uid": str(uuid.uuid4()), "creationTimestamp": now}
            obj |= {"kind": "Flunder", "apiVersion": GROUP_VERSION}
            self._send(201, self.server.store.put("ADDED", obj))

    def _update(self, namespace, name, sub):
        obj = json.loads(self.body)
        with self.server.store.lock:
            old = self._existing(namespace, name)
            version = obj["metadata"].get("resourceVersion")
            if version and version != old["metadata"]["resourceVersion"]:
                raise Failure(409, "Conflict", "the object has been modified")
            obj["metadata"] = {**old["metadata"], **obj["metadata"]}
            self._send(200, self._changed(obj))

    def _patch(self, namespace, name, sub):
        with self.server.store.lock:
            self._send(200, self._changed(merged(self._existing(namespace, name), json.loads(self.body))))

    def _changed(self, obj):
        meta = obj["metadata"]
        gone = meta.get("deletionTimestamp") and not meta.get("finalizers")
        return self.server.store.put("DELETED" if gone else "MODIFIED", obj)

    def _delete(self, namespace, name, sub):
        with self.server.store.lock:
            self._remove(self._existing(namespace, name))
            self._send(200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})

    def _deletecollection(self, namespace, name, sub):
        with self.server.store.lock:
            for obj in self._matching(namespace):
                self._remove(obj)
            self._send(200, {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"})

    def _remove(self, obj):
        if obj["metadata"].get("finalizers"):
            meta = {**obj["metadata"], "deletionTimestamp": obj["metadata"]["creationTimestamp"]}
            self.server.store.put("MODIFIED", {**obj, "metadata": meta})
        else:
            self.server.store.put("DELETED", dict(obj, metadata=dict(obj["metadata"])))

    def _watch(self, namespace, name, sub):
        store, events = self.server.store, queue.Queue()
        since = int(self.query.get("resourceVersion") or 0)
        with store.lock:
            if since:
                earlier = [event for event in store.log if event[0] > since]
            else:
                earlier = [(0, {"type": "ADDED", "object": one}) for one in self._matching(namespace)]
            for event in earlier:
                events.put(event)
            store.followers.append(events)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.flush()
        try:
            while True:
                try:
                    _, event = events.get(timeout=float(self.query.get("timeoutSeconds") or 300))
                except queue.Empty:
                    return self._chunk(b"")
                where = event["object"]["metadata"]["namespace"]
                if namespace in ("", where) and selected(event["object"], self.query):
                    self._chunk(json.dumps(event).encode() + b"\n")
        finally:
            store.followers.remove(events)

    def _echo(self):
        """Upgrades to a protocol that returns every frame (a length and as many bytes) in capitals."""
        if not self._upgrade_asked():
            raise Failure(400, "BadRequest", "Upgrade request required")
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        self.wfile.flush()
        while head := self.rfile.read(4):
            data = self.rfile.read(struct.unpack(">I", head)[0])
            self.wfile.write(head + data.upper())
            self.wfile.flush()


class ExtensionServer(ThreadingHTTPServer):
    """`seen` are the requests that came, with whom they are from; `slow` lets requests for .../slow go; `gone`
    ends connections that are open."""

    daemon_threads = True

    def __init__(self, address, api, certificate, key):
        super().__init__(address, Handler)
        self.api, self.store, self.seen, self.slow = api, Store(), [], threading.Event()
        self.gone = False
        path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
        trust = api.call("GET", path)["data"]
        self.allowed_names = json.loads(trust["requestheader-allowed-names"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.load_verify_locations(cadata=trust["requestheader-client-ca-file"])
        context.verify_mode = ssl.CERT_OPTIONAL
        self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def handle_error(self, request, client_address):
        pass


def main():
    address = f"{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
    api = Api(address, (ACCOUNT / "ca.crt").read_text(), (ACCOUNT / "token").read_text())
    server = ExtensionServer(("", 443), api, "/certificates/tls.crt", "/certificates/tls.key")
    server.serve_forever()


if __name__ == "__main__":
    main()
