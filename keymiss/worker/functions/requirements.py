"""Requirements of a script. RedisGears installs them; here whoever runs the worker does, and it is checked
that they are there."""

from __future__ import annotations

import json
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement

from keymiss.worker.functions.job_context import GearsError

GEARSCLIENT = "https://github.com/RedisGears/redisgears-py"
"""gearsclient requires itself of every server. What its scripts use of it, cloudpickle, is there."""

INSTALL = "no worker installs what a function needs: install it in the worker's environment"


def check_requirements(requirements: list[str]) -> None:
    """GearsError for the first that the worker's environment does not meet: package, version, extras. An
    address (``git+https://...``) is met by a package that was installed from it."""
    for requirement in requirements:
        if "://" in requirement and "@" not in requirement.partition("://")[0]:
            _check_address(requirement)
            continue
        try:
            _check(Requirement(requirement), requirement)
        except InvalidRequirement as error:
            raise GearsError(f"requirement {requirement!r} cannot be read: {error}") from None


def _check(wanted: Requirement, requirement: str) -> None:
    if wanted.marker is not None and not wanted.marker.evaluate():
        return
    try:
        version = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        raise GearsError(
            f"requirement {requirement!r} is not installed in the worker's environment: {INSTALL}"
        ) from None
    if not wanted.specifier.contains(version, prereleases=True):
        raise GearsError(
            f"requirement {requirement!r} is not met: {wanted.name} is {version} here; {INSTALL}"
        )
    if wanted.url is not None:
        _check_address(wanted.url)
    for one in metadata.requires(wanted.name) or []:
        of_extra = Requirement(one)
        if of_extra.marker is None or of_extra.marker.evaluate({"extra": ""}):
            continue  # not of an extra: whoever installed the package saw to it
        if any(of_extra.marker.evaluate({"extra": extra}) for extra in wanted.extras):
            of_extra.marker = None
            _check(of_extra, f"{requirement}: {one}")


def _check_address(address: str) -> None:
    plain = address.partition("#")[0].removeprefix("git+").rstrip("/").removesuffix(".git")
    if plain == GEARSCLIENT:
        return
    for package in metadata.distributions():
        origin = json.loads(package.read_text("direct_url.json") or "{}").get("url", "")
        if origin.rstrip("/").removesuffix(".git") == plain:
            return
    raise GearsError(f"requirement {address!r}: nothing was installed from there; {INSTALL}")
