"""What the target says of itself before a run: its version, and that its owner agreed.

One GET of `plan.version_path` to the first nodes, until one answers; nothing else runs
meanwhile. Of a JSON answer its name and version are kept, of any other the text, cut
short; a target that does not answer is worth a warning and no more, because the run itself
will show what it does. Verification follows the plan's TLS settings.
"""

from __future__ import annotations

import hmac
import http.client
import json
import ssl
from collections.abc import Sequence
from typing import Final

from loadtests.plan.call import Endpoint
from loadtests.plan.connecting import http_connection
from loadtests.plan.model import Node, Plan, Tls

TIMEOUT_S: Final = 3.0
NODES_ASKED: Final = 3
MAX_BYTES: Final = 2048
PROOF_PATH: Final = "/.well-known/headroom-load-test"  # RFC 8615


def fetch_version(plan: Plan, authorised: Sequence[str]) -> tuple[str | None, tuple[str, ...]]:
    """Text of the first answer with status 200 (None without one), and warnings."""
    if plan.version_path is None:
        return None, ()
    warnings: list[str] = []
    for node in plan.nodes[:NODES_ASKED]:
        try:
            return _version(node, plan, authorised), tuple(warnings)
        except (OSError, http.client.HTTPException) as error:
            warnings.append(f"target version not read from node {node.name}: {error}")
    return None, tuple(warnings)


def _version(node: Node, plan: Plan, authorised: Sequence[str]) -> str:
    assert plan.version_path is not None, "the caller has looked"
    status, body = get(node, node.base_path + plan.version_path, plan.tls, authorised)
    if status != http.client.OK:
        raise http.client.HTTPException(f"status {status}")
    return version_of(body.decode(errors="replace").strip())


def get(node: Node, path: str, tls: Tls | None, authorised: Sequence[str]) -> tuple[int, bytes]:
    """Status and the first bytes of one answer; OSError, HTTPException without one."""
    connection = http_connection(
        Endpoint(scheme=node.scheme, host=node.host, port=node.port),
        authorised,
        timeout_s=TIMEOUT_S,
        context=_context(tls) if node.scheme == "https" else None,
    )
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read(MAX_BYTES)
    finally:
        connection.close()


def seen_instead_of(
    proof: str, node: Node, tls: Tls | None, authorised: Sequence[str]
) -> str | None:
    """What a node serves instead of its owner's token; None when it serves the token."""
    try:
        status, body = get(node, PROOF_PATH, tls, authorised)
    except (OSError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    if status != http.client.OK:
        return f"status {status}"
    is_it = hmac.compare_digest(body.strip(), proof.encode())
    return None if is_it else "another text"


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


def _context(tls: Tls | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=tls.ca_pem if tls else None)
    if tls is not None:
        if not tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if tls.client_certificate_path is not None:
            context.load_cert_chain(tls.client_certificate_path, tls.client_key_path)
    return context
