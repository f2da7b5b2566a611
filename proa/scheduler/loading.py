"""Reads the scheduler's configuration file and users' plugins: Python classes from files and entry points."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

import yaml

from proa.scheduler.config import API_VERSION, KIND, ConfigError, Configuration, parse
from proa.scheduler.framework import NodePlugin, Plugin
from proa.scheduler.plugins.registry import Factory

ENTRY_POINTS = "proa.scheduler_plugins"


def load(file: Path | None, plugin_files: Iterable[Path] = ()) -> Configuration:
    """Returns the configuration of a file, with the plugins of Python files and of all installed packages that name
    some under the entry point group `proa.scheduler_plugins`. Without a file: the defaults and the files' plugins.

    Raises ConfigError for what is not valid, OSError for files that cannot be read.
    """
    factories: dict[str, Factory] = {}
    for point in entry_points(group=ENTRY_POINTS):
        made = point.load()
        factories[getattr(made, "name", "") or point.name] = made
    named: dict[str, Factory] = {}
    for path in plugin_files:
        named |= plugins_of(path)
    factories |= named
    if file is None:
        enabled = {"multiPoint": {"enabled": [{"name": name} for name in named]}}
        return parse({"apiVersion": API_VERSION, "kind": KIND, "profiles": [{"plugins": enabled}]}, factories)
    try:
        content = yaml.load(file.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: {error}") from error
    try:
        return parse(content, factories)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from error


def plugins_of(path: Path) -> dict[str, Factory]:
    """Returns the plugin classes that a Python file defines, by their names."""
    # Two files of one name must not be one module.
    name = f"proa_scheduler_plugin_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except Exception as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {error}") from error
    found: dict[str, Factory] = {
        one.name or one.__name__: one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, Plugin) and one.__module__ == name and one is not NodePlugin
    }
    if not found:
        raise ConfigError(f"{path}: defines no subclass of proa.scheduler.framework.Plugin")
    return found
