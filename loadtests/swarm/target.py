"""The target's own version, asked once before a run, for the manifest.

One GET of `plan.version_path` to the first nodes, until one answers; nothing else runs
meanwhile. Of a JSON answer its name and version are kept, of any other the text, cut
short; a target that does not answer is worth a warning and no more, because the run itself
will show what it does. Verification follows the plan's TLS settings.
"""

from __future__ import annotations

import http.client
import json
import ssl
from typing import Final

from loadtests.plan.model import Node, Plan, Tls

TIMEOUT_S: Final = 3.0
NODES_ASKED: Final = 3
MAX_BYTES: Final = 2048


def fetch_version(plan: Plan) -> tuple[str | None, tuple[str, ...]]:
    """Text of the first answer with status 200 (None without one), and warnings."""
    if plan.version_path is None:
        return None, ()
    warnings: list[str] = []
    for node in plan.nodes[:NODES_ASKED]:
        try:
            return _get(node, plan.version_path, plan.tls), tuple(warnings)
        except (OSError, http.client.HTTPException) as error:
            warnings.append(f"target version not read from node {node.name}: {error}")
    return None, tuple(warnings)


def _get(node: Node, path: str, tls: Tls | None) -> str:
    connection = _connection(node, tls)
    try:
        connection.request("GET", node.base_path + path, headers={"Connection": "close"})
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise http.client.HTTPException(f"status {answer.status}")
        return version_of(answer.read(MAX_BYTES).decode(errors="replace").strip())
    finally:
        connection.close()


def version_of(text: str) -> str:
    """The name and version that a JSON answer states, else the answer itself.

    An info document says much that differs from node to node and from hour to hour; what
    identifies the software are these two members.
    """
    try:
        document = json.loads(text)
    except ValueError:
        return text
    if not isinstance(document, dict) or not isinstance(document.get("version"), str):
        return text
    name = document.get("name")
    return f"{name} {document['version']}" if isinstance(name, str) else document["version"]


def _connection(node: Node, tls: Tls | None) -> http.client.HTTPConnection:
    if node.scheme == "http":
        return http.client.HTTPConnection(node.host, node.port, timeout=TIMEOUT_S)
    context = ssl.create_default_context(cadata=tls.ca_pem if tls else None)
    if tls is not None:
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.client_certificate_path is not None:
            context.load_cert_chain(tls.client_certificate_path, tls.client_key_path)
    return http.client.HTTPSConnection(node.host, node.port, timeout=TIMEOUT_S, context=context)
