"""One frozen tree of settings, read once at the start of a process.

Order, strongest first: command line flags (``overrides``), ``STREAMDETECT_*`` variables, their ``_FILE`` variants
(secrets mounted as files), a TOML file (``--config`` or ``STREAMDETECT_CONFIG``), defaults. The TOML file uses the
lower-case names of the variables. ``Settings(...)`` alone reads no environment, so tests and other programs can build
one by hand. Messages name the variable or key that is wrong and never its value.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, FilePath, SecretStr, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from streamdetect.errors import SettingsError

ENV_PREFIX: Final = "STREAMDETECT_"
CONFIG_VARIABLE: Final = ENV_PREFIX + "CONFIG"
FILE_SUFFIX: Final = "_FILE"
SECRET_FILE_BYTES_MAX: Final = 64 * 1024
# How near to a setting's name an unknown variable must be to be taken for a slip of the pen.
SLIP_RATIO: Final = 0.85
# Fields a mounted file may carry; every other setting is no secret.
SECRETS: Final = ("sasl_username", "sasl_password", "ssl_key_password")

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
SaslMechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]
Mode = Literal["shadow", "live"]
ClockName = Literal["wall", "event"]
Port = Annotated[int, Field(ge=0, le=65535)]

# What flags of commands are called where that is not the setting's own name.
FLAGS: Final = {"policy_file": "--policy", "topic_partitions": "--partitions", "topic_replication": "--replication"}
_ADDRESS: Final = re.compile(r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s:,/\[\]]+)(?::(\d{1,5}))?")


class Settings(BaseSettings):
    """Everything a process is told from outside. Units are in the names; ``None`` means not given."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_ignore_empty=True, hide_input_in_errors=True
    )

    bootstrap_servers: str = Field(
        default="localhost:9092", min_length=1, description="broker addresses, host:port,..."
    )
    cluster_id: str | None = Field(
        default=None, min_length=1, description="refuse every other cluster; `streamdetect topics` prints the id"
    )
    client_id: str = Field(default="streamdetect", min_length=1)
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: SaslMechanism = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    ssl_cafile: FilePath | None = Field(default=None, description="authorities to trust; the system's when not given")
    ssl_certfile: FilePath | None = Field(default=None, description="client certificate, PEM")
    ssl_keyfile: FilePath | None = Field(default=None, description="key of the client certificate, PEM")
    ssl_key_password: SecretStr | None = None
    ssl_check_hostname: bool = True

    group_id: str = Field(
        default="streamdetect", pattern=r"^[A-Za-z0-9._-]+$", description="consumer group; names the state"
    )
    topic_prefix: str = Field(default="streamdetect.", pattern=r"^[A-Za-z0-9._-]*$")
    request_topics: Annotated[tuple[str, ...], NoDecode] = Field(default=(), description="full names, comma separated")
    topic_partitions: int = Field(
        default=4, ge=1, le=10_000, description="partitions of topics that have to be created"
    )
    topic_replication: int | None = Field(
        default=None, ge=1, description="copies of topics to create; at most 3 if not given"
    )
    topic_admin: bool = Field(
        default=True, description="false: a broker without admin requests; topics appear when touched"
    )

    mode: Mode | None = Field(default=None, description="None: the policy decides")
    clock: ClockName = Field(default="wall", description="event: old data; no brake, nothing lapses")
    policy_file: FilePath | None = None
    restrictions_per_minute: int = Field(
        default=1000, ge=0, description="brake: new restrictions per minute of wall clock"
    )
    lag_max_s: float = Field(default=300.0, gt=0, description="brake: no new restriction when further behind than this")
    image_interval_s: float = Field(
        default=10.0, gt=0, description="state is saved so often; what came since is processed again after a crash"
    )
    image_bytes_per_s: float = Field(
        default=16e6, gt=0, description="changelog budget of a worker; larger images come up to 6 times less often"
    )
    chunk_records: int = Field(default=500, ge=1, le=100_000, description="most records handed to the pipeline at once")

    metrics_host: str = "127.0.0.1"
    metrics_port: Port = Field(
        default=9464, description="0: any free one; a free one is taken when the default is in use"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  the signature is the library's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003  as above
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  as above
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what the caller passes: ``load_settings`` composes the sources, so that each error can name its own."""
        return (init_settings,)

    @field_validator("bootstrap_servers")
    @classmethod
    def _are_addresses(cls, value: str) -> str:
        for address in value.split(","):
            found = _ADDRESS.fullmatch(address.strip())
            if found is None or int(found[1] or 0) > 65535:
                raise ValueError("not host:port, several with commas between; IPv6 in brackets")
        return value

    @field_validator("request_topics", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = tuple(name.strip() for name in value.split(",") if name.strip())
        if not names:
            raise ValueError("names no topic")
        return names

    @model_validator(mode="before")
    @classmethod
    def _default_request_topic(cls, data: dict[str, Any]) -> dict[str, Any]:
        if data.get("request_topics"):
            return data
        prefix = data.get("topic_prefix", cls.model_fields["topic_prefix"].default)
        return {**data, "request_topics": (f"{prefix}requests.v1",)}

    @field_validator("sasl_password", "sasl_username", "ssl_keyfile")
    @classmethod
    def _needs_its_protocol(cls, value: object, info: ValidationInfo) -> object:
        """A credential that would silently not be used is a mistake."""
        wanted = "SSL" if info.field_name == "ssl_keyfile" else "SASL"
        if value is not None and wanted not in str(info.data.get("security_protocol", wanted)):
            raise ValueError(f"given, but {ENV_PREFIX}SECURITY_PROTOCOL does not use {wanted}")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.security_protocol.startswith("SASL") and (self.sasl_username is None or self.sasl_password is None):
            raise ValueError(f"{self.security_protocol} needs {ENV_PREFIX}SASL_USERNAME and {ENV_PREFIX}SASL_PASSWORD")
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise ValueError(f"{ENV_PREFIX}SSL_KEYFILE needs {ENV_PREFIX}SSL_CERTFILE")
        return self

    def topic(self, name: str) -> str:
        """The full name of one of our topics, such as ``enforcement.v1``."""
        return self.topic_prefix + name


def load_settings(config: Path | None = None, **overrides: object) -> Settings:
    """Read the settings of this process. ``overrides`` win; those that are ``None`` count as not given.

    Raises ``SettingsError`` naming the variable or key that is wrong.
    """
    _refuse_slips(os.environ)
    path = config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    from_file = _toml(path) if path else {}
    from_secrets = _secret_files(os.environ)
    from_environment = EnvSettingsSource(Settings)()
    given = {name: value for name, value in overrides.items() if value is not None}
    origins = {name: f"{name} in {path}" for name in from_file}
    origins |= {name: _variable(name) + FILE_SUFFIX for name in from_secrets}
    origins |= {name: _variable(name) for name in from_environment}
    origins |= {name: FLAGS.get(name, "--" + name.replace("_", "-")) for name in given}
    try:
        merged: dict[str, Any] = {**from_file, **from_secrets, **from_environment, **given}
        return Settings(**merged)
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(detail, origins) for detail in error.errors())) from None


def _refuse_slips(environment: Mapping[str, str]) -> None:
    """Refuse an unknown variable with nearly the name of a setting.

    Others pass: a Kubernetes service called streamdetect puts STREAMDETECT_PORT and more into every container.
    """
    known = {name.upper() for name in (*Settings.model_fields, *(name + FILE_SUFFIX for name in SECRETS))}
    for variable in sorted(environment):
        name = variable.removeprefix(ENV_PREFIX)
        if name == variable or name in known or variable == CONFIG_VARIABLE:
            continue
        if near := difflib.get_close_matches(name, known, 1, SLIP_RATIO):
            raise SettingsError(f"{variable}: no such setting; did you mean {ENV_PREFIX}{near[0]}?")


def _variable(name: str) -> str:
    return ENV_PREFIX + name.upper()


def _toml(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"settings file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"settings file {path} is not TOML: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"settings file {path} is not TOML: {error}") from None
    except ValueError:  # what int() raises
        raise SettingsError(f"settings file {path} cannot be read: a number has too many digits") from None
    except RecursionError:
        raise SettingsError(f"settings file {path} cannot be read: too deeply nested") from None


def _secret_files(environment: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name in SECRETS:
        variable = _variable(name) + FILE_SUFFIX
        if place := environment.get(variable):
            try:
                with Path(place).open(encoding="utf-8") as file:
                    found[name] = file.read(SECRET_FILE_BYTES_MAX).rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
                raise SettingsError(f"{variable}: the file cannot be read: {reason}") from None
    return found


def _explain(detail: Mapping[str, Any], origins: Mapping[str, str]) -> str:
    name = str(detail["loc"][0]) if detail["loc"] else ""
    message = str(detail["msg"]).removeprefix("Value error, ")
    if not name:
        return message
    origin = origins.get(name, _variable(name))
    if detail["type"] == "path_not_file":
        return f"{origin}: no such file"
    if detail["type"] != "extra_forbidden":
        return f"{origin}: {message}"
    near = difflib.get_close_matches(name, Settings.model_fields, 1)
    return f"{origin}: no such setting" + (f"; did you mean {near[0]}?" if near else "")
