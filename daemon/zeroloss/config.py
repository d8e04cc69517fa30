"""The daemon's configuration: defaults that work, a TOML file over them, flags over both."""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

Endpoint = Annotated[str, Field(pattern=r"^(tcp|ipc|inproc)://.+$")]
Setting = float | tuple[str, ...]
"""A number, or the labels of a selection."""
_SETTING = re.compile(r"([a-z][a-z0-9_]*)\.([a-z][a-z0-9_]*)=(.+)")


class ConfigError(ValueError):
    """A configuration that cannot be used: key, value, and what was expected."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Stream(_Section):
    """Where the spectra come from."""

    source: Endpoint = Field(
        "tcp://127.0.0.1:5550", description="ZeroMQ endpoint of the spectrum stream"
    )
    kind: Literal["pull", "sub"] = Field(
        "pull", description="pull: complete, the source waits for us; sub: may lose, counted"
    )
    connect: bool = Field(False, description="connect to the source instead of waiting for it")
    sole_consumer: bool = Field(
        False,
        description="with pull and connect: confirm that nobody else pulls from this source",
    )
    allow_remote: bool = Field(False, description="allow endpoints beyond this machine")


class Outputs(_Section):
    """Where the maps go."""

    maps: Endpoint = Field("tcp://127.0.0.1:5551", description="endpoint of the live maps (XPUB)")
    requests: Endpoint = Field(
        "tcp://127.0.0.1:5552", description="endpoint of snapshots and requests (ROUTER)"
    )
    http: str = Field(
        "127.0.0.1:5553", pattern=r"^[^:]+:\d{1,5}$", description="address of /metrics and /health"
    )
    rate_hz: float = Field(20.0, gt=0, le=100, description="most map updates per second")

    @field_validator("http")
    @classmethod
    def _real_port(cls, value: str) -> str:
        if int(value.rpartition(":")[2]) > 65535:
            raise ValueError("expected a port from 0 to 65535")
        return value


class Models(_Section):
    """Which models run, and on what."""

    models: tuple[Path, ...] = Field((), description="folders with further model packages")
    use: tuple[str, ...] = Field(
        (), description="names of the packages to run; none: every one that fits the run"
    )
    set: tuple[str, ...] = Field(
        (),
        description="parameters and selections of packages, each PACKAGE.NAME=VALUE with a number, "
        "or labels with commas between them; none: the defaults, and no model with a selection",
    )
    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = Field(
        "auto", description="where models run; a named device that is missing is an error"
    )
    workers: int = Field(1, ge=1, le=64, description="threads that run models")

    @field_validator("set")
    @classmethod
    def _settings(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        settings(value)
        return value


class Queue(_Section):
    """The queue between receiving and the models."""

    queue_mb: int = Field(512, ge=1, description="spectra waiting in memory, MiB")
    latency_ms: float = Field(200.0, gt=0, description="latency budget of one batch")
    sum_passes_mb: int = Field(
        1024, ge=0, description="memory for summing repeated passes; beyond it the newest counts"
    )
    map_mb: int = Field(
        4096, ge=1, description="memory for the maps of one run; beyond it they are not made"
    )


class Recording(_Section):
    """The raw stream on disk."""

    record: bool = Field(True, description="record the raw stream before anything else")
    recordings: Path = Field(Path("recordings"), description="folder of recordings and maps")
    segment_mb: int = Field(1024, ge=1, description="size at which a new file is begun, MiB")
    fsync_s: float = Field(1.0, gt=0, description="seconds between flushes to the disk itself")


class Runs(_Section):
    """When a run is over."""

    idle_s: float = Field(30.0, gt=0, description="a run without any message is ended after this")
    repair_s: float = Field(
        5.0, ge=0, description="after the run end, wait this long for missing spectra"
    )
    detect_share: float = Field(
        0.01, gt=0, le=1, description="share of the pixels in which a detected label must show"
    )


class Log(_Section):
    """What the daemon says of itself."""

    log_format: Literal["plain", "json"] = Field("plain", description="plain lines or JSON")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="verbosity")


class Config(_Section):
    """Everything a daemon can be told; the sections of the TOML file."""

    stream: Stream = Stream()
    outputs: Outputs = Outputs()
    models: Models = Models()
    queue: Queue = Queue()
    recording: Recording = Recording()
    runs: Runs = Runs()
    log: Log = Log()

    @property
    def sha256(self) -> str:
        """Hash of the whole configuration, stamped on every map."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(canonical.encode()).hexdigest()


def settings(texts: Iterable[str]) -> dict[str, dict[str, Setting]]:
    """Package and parameter or selection to value, of texts PACKAGE.NAME=VALUE; a later one counts.

    Whether the value suits the package is for `zeroloss.models.parameters` to say. Raises
    `ConfigError` for any other text.
    """
    values: dict[str, dict[str, Setting]] = {}
    for text in texts:
        match = _SETTING.fullmatch(text)
        value = None if match is None else _setting(match.group(3))
        if match is None or value is None:
            raise ConfigError(
                f"{text!r}: expected PACKAGE.NAME=VALUE, the value a number, or labels with commas "
                "between them"
            )
        values.setdefault(match.group(1), {})[match.group(2)] = value
    return values


def _setting(text: str) -> Setting | None:
    try:
        number = float(text)
    except ValueError:
        labels = tuple(label.strip() for label in text.split(","))
        return labels if all(labels) else None
    return number if math.isfinite(number) else None


def add_flags(parser: argparse.ArgumentParser, *, skip: frozenset[str] = frozenset()) -> None:
    """One flag per option, named as the option; `skip` leaves out sections or "section.option"."""
    parser.add_argument("--config", type=Path, metavar="TOML", help="configuration file")
    for section, field in Config.model_fields.items():
        if section in skip:
            continue
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        group = parser.add_argument_group(section, (model.__doc__ or "").strip().splitlines()[0])
        for name, option in model.model_fields.items():
            text = f"{option.description} (default: {_shown(option.default)})".replace("%", "%%")
            flag = "--" + name.replace("_", "-")
            dest = f"{section}.{name}"
            if dest in skip:
                continue
            if option.annotation is bool:
                group.add_argument(
                    flag, dest=dest, action=argparse.BooleanOptionalAction, default=None, help=text
                )
            elif get_origin(option.annotation) is tuple:
                group.add_argument(
                    flag, dest=dest, action="append", default=None, metavar="VALUE", help=text
                )
            else:
                choices = get_args(option.annotation)
                metavar = "{" + ",".join(choices) + "}" if choices else name.upper()
                group.add_argument(flag, dest=dest, default=None, metavar=metavar, help=text)


def load_config(args: argparse.Namespace) -> Config:
    """Defaults, then the file named by `--config`, then the flags that were given.

    Raises `ConfigError` that names the key, the value and what was expected.
    """
    values: dict[str, dict[str, Any]] = {}
    if args.config is not None:
        try:
            values = tomllib.loads(args.config.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"cannot read {args.config}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{args.config} is not TOML: {error}") from None
    for dest, value in vars(args).items():
        section, dot, name = dest.partition(".")
        if dot and value is not None:
            inner = values.setdefault(section, {})
            if not isinstance(inner, dict):
                raise ConfigError(f"{section} = {inner!r}: expected a section [{section}]")
            inner[name] = value
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError("; ".join(_sentence(item) for item in error.errors())) from None


def _sentence(item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = ", ".join(_known_keys(item["loc"][:-1]))
        return f"{key}: unknown key; expected one of {known}"
    return f"{key} = {item['input']!r}: {item['msg'][0].lower()}{item['msg'][1:]}"


def _known_keys(path: tuple[int | str, ...]) -> list[str]:
    model: Any = Config
    for part in path:
        model = model.model_fields[str(part)].annotation
    return list(model.model_fields)


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
