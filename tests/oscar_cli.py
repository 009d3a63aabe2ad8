"""What oscar-cli posts for a Service (OSCAR contract 9.1)."""

from __future__ import annotations

from typing import Any, Final

CLI_BODY: Final[dict[str, Any]] = {
    "name": "edge-blur",
    "cluster_id": "lab",
    "memory": "",
    "cpu": "0.5",
    "total_memory": "",
    "total_cpu": "",
    "enable_gpu": False,
    "enable_sgx": False,
    "image_prefetch": False,
    "synchronous": {"min_scale": 0, "max_scale": 0},
    "delegation": "",
    "rescheduler_threshold": 0,
    "log_level": "",
    "image": "docker.io/acme/blur:1",
    "alpine": False,
    "token": "",
    "file_stage_in": False,
    "input": [{"storage_provider": "minio.default", "path": "edge-blur/in"}],
    "output": [{"storage_provider": "minio.default", "path": "edge-blur/out", "suffix": [".png"]}],
    "script": "#!/bin/sh\r\ntrue\r\n",
    "expose": {
        "min_scale": 0,
        "max_scale": 0,
        "cpu_threshold": 0,
        "rewrite_target": False,
        "nodePort": 0,
        "default_command": False,
        "set_auth": False,
    },
    "environment": {"Variables": {"K": "v"}},
    "annotations": None,
    "vo": "",
    "labels": None,
    "storage_providers": {
        "minio": {"default": {"endpoint": "https://elsewhere", "access_key": "AK", "secret_key": "SK", "verify": True}},
        "s3": None,
    },
    "clusters": {"lab": {"endpoint": "https://lab", "auth_user": "oscar", "auth_password": "pw", "ssl_verify": True}},
    "owner": "",
    "interlink_node_name": "",
    "allowed_users": None,
    "mount": {"storage_provider": "", "path": ""},
}
