"""dns.py KUBECTL KUBECONFIG ADDRESS: names of a cluster's Services, for pods of the testbed. Standard library alone.

Answers A questions for `<service>.<namespace>.svc.cluster.local`, and for pods of headless Services, from what one
`kubectl get --watch` tells. Every other name does not exist: pods reach nothing beyond the machine.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import struct
import sys
from typing import Any

ZONE = "svc.cluster.local"
NO_ERROR, FORMAT_ERROR, NO_NAME = 0, 1, 3
TYPE_A, CLASS_IN = 1, 1


class Names:
    """Addresses by name, without the zone."""

    def __init__(self) -> None:
        self._services: dict[str, list[str]] = {}
        self._slices: dict[str, dict[str, list[str]]] = {}

    def take(self, change: dict[str, Any]) -> None:
        """One line of the watch."""
        found = change["object"]
        meta = found["metadata"]
        key, is_gone = f"{meta['namespace']}/{meta['name']}", change["type"] == "DELETED"
        if found["kind"] == "Service":
            own = f"{meta['name']}.{meta['namespace']}"
            self._services.pop(own, None)
            if not is_gone:
                self._services[own] = [one for one in found["spec"].get("clusterIPs", []) if one != "None"]
        elif found["kind"] == "EndpointSlice":
            self._slices.pop(key, None)
            if not is_gone:
                self._slices[key] = _endpoints(found)

    def find(self, name: str) -> list[str] | None:
        """Addresses of a name; None: there is no such name."""
        if not name.endswith(f".{ZONE}"):
            return None
        own = name.removesuffix(f".{ZONE}")
        direct = self._services.get(own)
        if direct:
            return direct
        headless = [address for one in self._slices.values() for address in one.get(own, [])]
        return headless or direct


def _endpoints(found: dict[str, Any]) -> dict[str, list[str]]:
    meta = found["metadata"]
    service = f"{meta.get('labels', {}).get('kubernetes.io/service-name', '')}.{meta['namespace']}"
    names: dict[str, list[str]] = {}
    for endpoint in found.get("endpoints") or []:
        if endpoint.get("hostname"):
            names.setdefault(f"{endpoint['hostname']}.{service}", []).extend(endpoint["addresses"])
        if endpoint.get("conditions", {}).get("ready", True):
            names.setdefault(service, []).extend(endpoint["addresses"])
    return names


def answer(question: bytes, names: Names) -> bytes:
    """The answer to one packet."""
    number, flags, count = struct.unpack("!HHH", question[:6])
    labels, at = [], 12
    while count and question[at]:
        labels.append(question[at + 1 : at + 1 + question[at]].decode("ascii", "replace").lower())
        at += 1 + question[at]
    asked = question[12 : at + 5]
    kind = struct.unpack("!H", question[at + 1 : at + 3])[0]
    found = names.find(".".join(labels))
    addresses = [one for one in found or [] if kind == TYPE_A and ipaddress.ip_address(one).version == 4]
    code = NO_NAME if found is None else NO_ERROR
    header = struct.pack("!HHHHHH", number, 0x8480 | (flags & 0x0100) | code, 1, len(addresses), 0, 0)
    records = b"".join(
        struct.pack("!HHHIH", 0xC00C, TYPE_A, CLASS_IN, 5, 4) + ipaddress.ip_address(one).packed for one in addresses
    )
    return header + asked + records


class Server(asyncio.DatagramProtocol):
    """The UDP side; answers are small enough to need no TCP."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # asyncio's own
        """Keep the socket."""
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer, or say nothing to what is no question."""
        try:
            self._transport.sendto(answer(data, self._names), addr)
        except (struct.error, IndexError, ValueError):
            return


async def follow(kubectl: str, kubeconfig: str, kind: str, names: Names) -> None:
    """Take what one watch tells, for ever; a watch that ends begins again."""
    while True:
        watching = await asyncio.create_subprocess_exec(
            kubectl,
            *("--kubeconfig", kubeconfig, "get", kind, "--all-namespaces"),
            *("--watch", "--output-watch-events", "--output", "json"),
            stdout=asyncio.subprocess.PIPE,
            limit=2**24,
        )
        assert watching.stdout is not None
        async for line in watching.stdout:
            names.take(json.loads(line))
        await watching.wait()
        await asyncio.sleep(1)


async def main(kubectl: str, kubeconfig: str, address: str) -> None:
    """Serve until killed."""
    names = Names()
    await asyncio.get_running_loop().create_datagram_endpoint(lambda: Server(names), local_addr=(address, 53))
    await asyncio.gather(*(follow(kubectl, kubeconfig, kind, names) for kind in ("services", "endpointslices")))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
