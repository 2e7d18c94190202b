"""Plug-ins of Snakemake that a profile needs, asked for before Snakemake starts."""

from importlib.util import find_spec


def require_executor(name: str) -> None:
    """End the process with one line where Snakemake has no executor of that name.

    Args:
        name: Name of the executor, such as `cluster-generic`.

    Raises:
        SystemExit: Its plug-in is not installed. A profile's definitions turn any other
            error into Snakemake's own words.
    """
    if find_spec(f"snakemake_executor_plugin_{name.replace('-', '_')}") is None:
        raise SystemExit(
            f"mil: this profile needs Snakemake's plug-in for {name}, which is not installed: "
            f"pip install snakemake-executor-plugin-{name}"
        )


def register_logger() -> bool:
    """Make the logger `mil` known to Snakemake, which finds none in a package of another name.

    Returns:
        Whether it is known now; else a profile names no logger, and a run shows what
        Snakemake itself shows.
    """
    try:
        from snakemake_interface_logger_plugins.registry import LoggerPluginRegistry

        from mil.plan import live

        registry = LoggerPluginRegistry()
        if not registry.is_installed("mil"):
            registry.register_plugin("snakemake_logger_plugin_mil", live)
        return registry.is_installed("mil")
    # Of an interface of another version anything may come, and a run does without.
    except Exception:  # noqa: BLE001
        return False
