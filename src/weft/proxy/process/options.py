"""What the command line of a proxy says, as values; ``weft.cli.proxy`` fills it.

Names, meanings and defaults are those of Envoy's flags.
"""

from dataclasses import dataclass
from typing import Final

from weft.proxy.context import Identity
from weft.proxy.process.local_address import local_address

SERVE: Final = "serve"
VALIDATE: Final = "validate"
INIT_ONLY: Final = "init_only"

DEFAULT_LOG_FORMAT: Final = "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The flags of ``weft proxy``."""

    config_path: str = ""
    config_yaml: str = ""
    """Merged over the file."""
    mode: str = SERVE
    concurrency: int = 1
    """Workers; at least 1."""

    log_level: str = "info"
    component_log_level: str = ""
    log_format: str = DEFAULT_LOG_FORMAT
    log_format_escaped: bool = False
    log_path: str = ""

    base_id: int = 0
    use_dynamic_base_id: bool = False
    base_id_path: str = ""
    """Where the base id is written to; empty for nowhere."""
    restart_epoch: int = 0
    disable_hot_restart: bool = False
    start_without_parent: bool = False
    """``--skip-hot-restart-on-no-parent``: an epoch above 0 starts as if it were 0."""
    socket_path: str = "@envoy_domain_socket"
    socket_mode: int = 0

    service_cluster: str = ""
    service_node: str = ""
    service_zone: str = ""

    drain_time: float = 600.0
    """Seconds that connections of a removed or replaced listener have to end."""
    drain_immediately: bool = False
    """``--drain-strategy immediate``."""
    parent_shutdown_time: float = 900.0
    admin_address_path: str = ""
    file_flush_interval: float = 10.0
    """Seconds after which access logs are written at the latest."""
    file_flush_min_size: int = 64 * 1024
    """Bytes after which access logs are written at once."""

    allow_unknown_static_fields: bool = False
    reject_unknown_dynamic_fields: bool = False
    ignore_unknown_dynamic_fields: bool = False
    skip_deprecated_logs: bool = False
    local_address_ip_version: str = "v4"
    disabled_extensions: tuple[str, ...] = ()
    enable_core_dump: bool = False
    stats_tags: tuple[tuple[str, str], ...] = ()
    """Added to every stat: (tag, value)."""

    @property
    def stop_time(self) -> float:
        """Seconds that SIGTERM gives to what is under way.

        Envoy gives none.  Five are what Istio's agent gives, well inside the grace of container
        runtimes (10 s) and Kubernetes (30 s), after which SIGKILL would cut everything.
        """
        return min(self.drain_time, 5.0)

    def identity(self, configured: Identity) -> Identity:
        """The ``node`` of the bootstrap with what the flags say over it."""
        return Identity(
            node_id=self.service_node or configured.node_id,
            cluster=self.service_cluster or configured.cluster,
            zone=self.service_zone or configured.zone,
            region=configured.region,
            sub_zone=configured.sub_zone,
            metadata=configured.metadata,
            address=local_address(self.local_address_ip_version == "v6"),
        )

    def as_envoy_prints(self) -> dict[str, object]:
        """``command_line_options`` of ``/server_info``, in Envoy's order."""
        return {
            "base_id": str(self.base_id),
            "concurrency": self.concurrency,
            "config_path": self.config_path,
            "config_yaml": self.config_yaml,
            "allow_unknown_static_fields": self.allow_unknown_static_fields,
            "admin_address_path": self.admin_address_path,
            "local_address_ip_version": self.local_address_ip_version,
            "log_level": self.log_level,
            "component_log_level": self.component_log_level,
            "log_format": self.log_format,
            "log_path": self.log_path,
            "service_cluster": self.service_cluster,
            "service_node": self.service_node,
            "service_zone": self.service_zone,
            "file_flush_interval": _duration(self.file_flush_interval),
            "drain_time": _duration(self.drain_time),
            "parent_shutdown_time": _duration(self.parent_shutdown_time),
            "mode": {SERVE: "Serve", VALIDATE: "Validate", INIT_ONLY: "InitOnly"}[self.mode],
            "disable_hot_restart": self.disable_hot_restart,
            "enable_mutex_tracing": False,
            "restart_epoch": self.restart_epoch,
            "cpuset_threads": False,
            "reject_unknown_dynamic_fields": self.reject_unknown_dynamic_fields,
            "log_format_escaped": self.log_format_escaped,
            "disabled_extensions": list(self.disabled_extensions),
            "ignore_unknown_dynamic_fields": self.ignore_unknown_dynamic_fields,
            "use_dynamic_base_id": self.use_dynamic_base_id,
            "base_id_path": self.base_id_path,
            "drain_strategy": "Immediate" if self.drain_immediately else "Gradual",
            "enable_fine_grain_logging": False,
            "socket_path": self.socket_path,
            "socket_mode": self.socket_mode,
            "enable_core_dump": self.enable_core_dump,
            "stats_tag": [f"{tag}:{value}" for tag, value in self.stats_tags],
            "skip_hot_restart_on_no_parent": self.start_without_parent,
            "skip_hot_restart_parent_stats": False,
            "skip_deprecated_logs": self.skip_deprecated_logs,
            "file_flush_min_size": self.file_flush_min_size // 1024,
            "log_stacktrace_single_entry": False,
        }


def _duration(seconds: float) -> str:
    """As protobuf JSON prints it: whole seconds, or three digits."""
    return f"{seconds:.0f}s" if seconds == int(seconds) else f"{seconds:.3f}s"
