"""Where the servers of a platform listen."""

from __future__ import annotations

from pathlib import Path

from tidemill.platform.servers import WEED_GRPC_OFFSET, SeaweedServer, free_ports


def test_ports_that_are_asked_for_together_are_different() -> None:
    assert len(set(free_ports(300))) == 300


def test_a_store_has_every_port_to_itself(tmp_path: Path) -> None:
    server = SeaweedServer.on_free_ports(tmp_path, access_key="a", secret_key="s")
    single = [server.s3_port, server.master_port, server.volume_port, server.filer_port, server.admin_port]
    assert len({*single, *server.grpc_ports, server.admin_port + WEED_GRPC_OFFSET}) == 10
