"""The API reference: a page for each public module, made from docstrings.

A public name, or a public method or property of one, without a docstring ends the
build.
"""

from __future__ import annotations

import functools
import pathlib

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = "tfrs_negatives"

# What Keras calls, and says in its own documentation what it is.
OF_KERAS = {
    "build",
    "build_from_config",
    "call",
    "compute_loss",
    "compute_output_shape",
    "from_config",
    "get_config",
    "load_own_variables",
    "make_test_function",
    "make_train_function",
    "on_epoch_begin",
    "on_epoch_end",
    "on_train_batch_begin",
    "on_train_batch_end",
    "on_train_begin",
    "on_train_end",
    "reset_metrics",
    "reset_state",
    "result",
    "save_own_variables",
    "test_step",
    "train_step",
    "update_state",
}


@functools.cache
def package() -> griffe.Module:
    """The package, read and not imported."""
    loader = griffe.GriffeLoader(search_paths=[ROOT], allow_inspection=False)
    loaded = loader.load(PACKAGE)
    loader.resolve_aliases(external=False)
    return loaded


def names_of(module: griffe.Module) -> list[str]:
    """The public names of a module, those that it lists."""
    names = [str(getattr(name, "name", name)) for name in module.exports or ()]
    if not names:
        raise PluginError(f"{module.path} has no `__all__`.")
    return names


def public_modules() -> dict[str, list[str]]:
    """The names of each public module, and of the package what is no module itself."""
    package_names = [name for name in names_of(package()) if name != "__version__"]
    modules = [name for name in package_names if package()[name].is_module]
    others = [name for name in package_names if name not in modules]
    found = {PACKAGE: others} if others else {}
    for name in sorted(modules):
        found[f"{PACKAGE}.{name}"] = names_of(package()[name])
    return found


def undocumented(path: str, item: griffe.Object) -> list[str]:
    """What has no docstring, of a public name and its public members."""
    missing = [] if item.docstring else [path]
    if not item.is_class:
        return missing
    bases = [base for base in item.mro() if base.path.startswith(f"{PACKAGE}.")]
    for name, member in item.members.items():
        if name.startswith("_") or name.isupper() or name in OF_KERAS:
            continue
        if member.is_alias or not (member.is_function or "property" in member.labels):
            continue
        same = [base.members[name] for base in bases if name in base.members]
        if not any(each.docstring for each in (member, *same)):
            missing.append(f"{path}.{name}")
    return missing


def object_at(path: str) -> griffe.Object:
    """A module or what it has, where it is defined."""
    inside = path.removeprefix(PACKAGE).lstrip(".")
    item = package()[inside] if inside else package()
    return item.final_target if item.is_alias else item


def place_of(module: str) -> str:
    """Where the page of a module is on the site."""
    return f"reference/{module}.md"


def reference_page(module: str, names: list[str]) -> str:
    """The page of a module, for mkdocstrings to fill."""
    lines = [f"# {module}", "", object_at(module).docstring.value, ""]
    for name in names:
        lines += [f"::: {module}.{name}", ""]
    return "\n".join(lines)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Lists the pages where `nav` has an empty `Reference`."""
    places = [place_of(module) for module in public_modules()]
    (section,) = [item for item in config.nav if "Reference" in item]
    section["Reference"] = places
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    missing = []
    for module, names in public_modules().items():
        for name in names:
            path = f"{module}.{name}"
            missing += undocumented(path, object_at(path))
        page = reference_page(module, names)
        files.append(File.generated(config, place_of(module), content=page))
    if missing:
        raise PluginError(f"Public names without a docstring: {', '.join(missing)}.")
    return files
