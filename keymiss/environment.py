"""Settings out of environment variables, by pydantic-settings; a bad value is one clear sentence.

An empty variable is one that is not set. A secret may be in a file: ``<NAME>_FILE`` is its path.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BeforeValidator, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

MAX_SECRET_BYTES = 4096  # a file that is longer is not the one that was meant


class BadSetting(ValueError):
    """A setting that cannot be used; the text names it and says what it may be."""


def _digits(value: Any) -> Any:
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("not digits only")
    return value


Whole = Annotated[int, BeforeValidator(_digits)]
"""A whole number, with its limits in the field: ``masters: Whole = Field(4, ge=1, le=64)``."""


class EnvironmentSettings(BaseSettings):
    """Settings that `from_env` reads from variables ``<env_prefix><FIELD NAME IN CAPITALS>``; the constructor
    reads nothing.

    A validator's ValueError goes on after the variable's name: ``must be ..., not ...``.
    """

    model_config = SettingsConfigDict(frozen=True, hide_input_in_errors=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What the constructor is given, nothing else."""
        return (init_settings,)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Self:
        """Settings from ``env`` (default: the process's). Raises BadSetting."""
        return cls._from(os.environ if env is None else env)

    @classmethod
    def _from(cls, env: Mapping[str, str], **given: Any) -> Self:
        """``given``: fields that are no variable's plain value."""
        source = EnvSettingsSource(cls)
        source.env_vars = {name.lower(): text for name, text in env.items() if text and name == name.upper()}
        try:
            return cls(**(source() | given))
        except ValidationError as error:
            raise BadSetting(cls._sentence(error)) from None

    @classmethod
    def _sentence(cls, error: ValidationError) -> str:
        """The first thing that is wrong."""
        first = error.errors()[0]
        field = str(first["loc"][0])
        name, info = f"{cls.model_config['env_prefix']}{field}".upper(), cls.model_fields[field]
        if get_origin(info.annotation) is Literal:
            return f"{name} must be {' or '.join(get_args(info.annotation))}, not {first['input']!r}"
        low = next((limit.ge for limit in info.metadata if isinstance(limit, Ge)), None)
        high = next((limit.le for limit in info.metadata if isinstance(limit, Le)), None)
        if low is None or high is None:
            return f"{name} {first['ctx']['error']}"
        kind = "whole number" if info.annotation is int else "number"
        return f"{name} must be a {kind} from {low} to {high}, not {first['input']!r}"


def secret(name: str, env: Mapping[str, str]) -> str:
    """What the variable ``name`` holds, or the file that ``<name>_FILE`` names; "" when neither is set.

    Of a file the line break at its end is no part. Raises BadSetting, without the secret in its text, when
    both are set, the file cannot be read or is empty, or there is no printable text.
    """
    value, path = env.get(name) or "", env.get(f"{name}_FILE") or ""
    if value and path:
        raise BadSetting(f"{name} and {name}_FILE are both set: one of them must go")
    if path:
        return _printable(f"The file of {name}_FILE, {path},", _first_line(name, path))
    return _printable(name, value) if value else ""


def _first_line(name: str, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        why = getattr(error, "strerror", None) or error
        raise BadSetting(f"{name}_FILE: {path!r} cannot be read: {why}") from None
    if len(raw) > MAX_SECRET_BYTES:
        raise BadSetting(f"{name}_FILE: {path!r} has more than {MAX_SECRET_BYTES} bytes")
    try:
        text = raw.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise BadSetting(f"{name}_FILE: {path!r} is not text in UTF-8") from None
    if not text:
        raise BadSetting(f"{name}_FILE: {path!r} is empty")
    return text


def _printable(what: str, text: str) -> str:
    if not (text.strip() and text.isprintable()):
        raise BadSetting(f"{what} must have printable text in one line, and no control characters")
    return text
