"""The settings of a queue, a key, a job type and a pause: the models that REST and Python share.

`settings.py` says what the settings mean. Only what is given changes; null takes a setting back to its
default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, TypeVar

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from goqueue.config.bounds import near_moment
from goqueue.engine.options.schema_rules import alternatives
from goqueue.engine.options.uniqueness import KEY_MAX_CHARACTERS
from goqueue.errors import InvalidJobError
from goqueue.jobs import MAX_DELAY_SECONDS
from goqueue.limits.settings import (
    MAX_CONCURRENCY,
    MAX_RAMP_SECONDS,
    MAX_RATE_LIMIT,
    MAX_RATE_PERIOD_SECONDS,
    MAX_SLO_WAIT_SECONDS,
    MAX_WEIGHT,
    Breaker,
    KeyLimits,
    OnConflict,
    QueueLimits,
    RateAlgorithm,
    RateLimit,
)
from goqueue.remote.declaration import TypeDeclaration

TEXT_MAX_CHARACTERS = 500
MIN_RATE_PERIOD_SECONDS = 0.1
MIN_SLO_WAIT_SECONDS = 0.01
MIN_SLO_OBJECTIVE = 0.5
MAX_SLO_OBJECTIVE = 0.9999
MAX_BREAKER_WINDOW_SECONDS = 3_600.0
MAX_BREAKER_COOLDOWN_SECONDS = 86_400.0
MAX_BREAKER_MINIMUM = 100_000
MAX_PROBES = 1_000

_BREAKER = Breaker()

Model = TypeVar("Model", bound=BaseModel)
Slots = Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)]
Text = Annotated[str, Field(min_length=1, max_length=TEXT_MAX_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]+$")]


Author = Annotated[str, Field(min_length=1, max_length=KEY_MAX_CHARACTERS, pattern=r"^[^\x00-\x1f\x7f]+$")]


class FlowSettings(BaseModel):
    """The base of models of settings: unknown ones are wrong, and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)


class RateSettings(FlowSettings):
    """At most `limit` starts in `period_seconds`."""

    limit: Annotated[int, Field(ge=1, le=MAX_RATE_LIMIT)]
    period_seconds: Annotated[
        float, Field(ge=MIN_RATE_PERIOD_SECONDS, le=MAX_RATE_PERIOD_SECONDS, allow_inf_nan=False)
    ]
    algorithm: Annotated[RateAlgorithm, Field(strict=False)] = RateAlgorithm.SLIDING_WINDOW

    def limits(self) -> RateLimit:
        """Return the rate limit that these settings mean."""
        return RateLimit(self.limit, self.period_seconds, self.algorithm)


class QueueSettings(FlowSettings):
    """How a queue lets its jobs in. Only what is given changes; null is the default."""

    concurrency: Annotated[Slots | None, Field(description="The most jobs that run at once.")] = None
    key_concurrency: Annotated[Slots | None, Field(description="The most of each concurrency key.")] = None
    on_conflict: Annotated[
        Annotated[OnConflict, Field(strict=False)] | None,
        Field(description="What happens to a job whose concurrency limit is reached. Default: wait."),
    ] = None
    fair: Annotated[bool | None, Field(description="Keys take turns, by their weights.")] = None
    fifo: Annotated[
        bool | None, Field(description="Jobs of a key run one after the other, in their order of creation.")
    ] = None
    rate: Annotated[RateSettings | None, Field(description="The most starts of the queue.")] = None
    key_rate: Annotated[RateSettings | None, Field(description="The most starts of each key.")] = None
    ramp_seconds: Annotated[
        Annotated[float, Field(ge=0, le=MAX_RAMP_SECONDS, allow_inf_nan=False)] | None,
        Field(description="After a pause or a slow-down, grow from one job at a time over so long."),
    ] = None
    slo_wait_seconds: Annotated[
        Annotated[float, Field(ge=MIN_SLO_WAIT_SECONDS, le=MAX_SLO_WAIT_SECONDS, allow_inf_nan=False)] | None,
        Field(description="The wait that a job should not exceed. Default: none is promised."),
    ] = None
    slo_objective: Annotated[
        Annotated[float, Field(ge=MIN_SLO_OBJECTIVE, le=MAX_SLO_OBJECTIVE, allow_inf_nan=False)] | None,
        Field(description="The part of the jobs that has to keep it. Default: 0.99."),
    ] = None

    def changes(self) -> dict[str, Any]:
        """Return the fields of `QueueLimits` that were given, null as their default."""
        defaults = QueueLimits()
        given = {}
        for name in self.model_fields_set:
            value = getattr(self, name)
            if isinstance(value, RateSettings):
                value = value.limits()
            given[name] = getattr(defaults, name) if value is None else value
        return given


class KeySettings(FlowSettings):
    """What is special about one key of a queue. Only what is given changes; null is the default."""

    weight: Annotated[
        Annotated[int, Field(ge=1, le=MAX_WEIGHT)] | None, Field(description="Its share of the turns.")
    ] = None
    concurrency: Annotated[
        Slots | None, Field(description="The most of its jobs at once, instead of the queue's.")
    ] = None

    def changes(self) -> dict[str, Any]:
        """Return the fields of `KeyLimits` that were given, null as their default."""
        defaults = asdict(KeyLimits())
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return {name: defaults[name] if value is None else value for name, value in given.items()}


class BreakerSettings(FlowSettings):
    """When a job type is stopped because it fails, and how it comes back."""

    failure_rate: Annotated[
        float, Field(gt=0, le=1, allow_inf_nan=False, description="It opens when this part of them failed")
    ] = _BREAKER.failure_rate
    minimum: Annotated[
        int, Field(ge=1, le=MAX_BREAKER_MINIMUM, description="of at least so many attempts that ended")
    ] = _BREAKER.minimum
    window_seconds: Annotated[
        float, Field(ge=1, le=MAX_BREAKER_WINDOW_SECONDS, allow_inf_nan=False, description="in this time.")
    ] = _BREAKER.window_seconds
    cooldown_seconds: Annotated[
        float,
        Field(ge=0.1, le=MAX_BREAKER_COOLDOWN_SECONDS, allow_inf_nan=False, description="So long nothing."),
    ] = _BREAKER.cooldown_seconds
    probes: Annotated[
        int, Field(ge=1, le=MAX_PROBES, description="Then so many jobs; it closes when all complete.")
    ] = _BREAKER.probes

    def limits(self) -> Breaker:
        """Return the circuit breaker that these settings mean."""
        return Breaker(**self.model_dump())


#: Each index on payloads is paid for by every job of its type.
MAX_INDEXED_PATHS = 5

PayloadPath = Annotated[str, Field(pattern=r"^[\w-]+(\.[\w-]+)*$", max_length=200)]


class TypeSettings(FlowSettings):
    """How the jobs of a type are let in and found. Only what is given changes; null is none."""

    concurrency: Annotated[Slots | None, Field(description="The most jobs that run at once.")] = None
    breaker: Annotated[
        BreakerSettings | None, Field(description="Its circuit breaker; what it does not say is the default.")
    ] = None

    indexed: Annotated[
        Annotated[list[PayloadPath], Field(max_length=MAX_INDEXED_PATHS)] | None,
        Field(description="Paths of its payloads by which its jobs are looked for, such as customer_id."),
    ] = None
    # Null takes nothing back here, so it is no value; that none is given is told by `model_fields_set`.
    declared: Annotated[
        TypeDeclaration,
        Field(
            description="Declares the type, as a whole, for workers that are no Python processes. DELETE "
            "takes it back."
        ),
    ] = None  # type: ignore[assignment]

    def changes(self) -> dict[str, Any]:
        """Return the limits that were given, null where they are to go."""
        given: dict[str, Any] = {
            name: getattr(self, name) for name in self.model_fields_set & {"concurrency", "breaker"}
        }
        if isinstance(given.get("breaker"), BreakerSettings):
            given["breaker"] = given["breaker"].limits()
        return given


class PauseSettings(FlowSettings):
    """A pause of a queue: why, by whom, and until when."""

    model_config = ConfigDict(json_schema_extra=alternatives(("until", "seconds")))

    reason: Text | None = None
    author: Author | None = None
    until: AwareDatetime | None = None
    seconds: Annotated[
        Annotated[float, Field(gt=0, le=MAX_DELAY_SECONDS, allow_inf_nan=False)] | None,
        Field(description="Instead of until: so long from now."),
    ] = None

    @field_validator("until")
    @classmethod
    def _expect_near(cls, value: datetime | None) -> datetime | None:
        return value if value is None else near_moment(value)

    @field_validator("seconds")
    @classmethod
    def _expect_one_end(cls, value: float | None, info: ValidationInfo) -> float | None:
        if value is not None and info.data.get("until") is not None:
            raise PydanticCustomError("end", "expected only one of until and seconds")
        return value


def validated(model: type[Model], settings: Mapping[str, Any]) -> Model:
    """Validate what a caller from Python gives; rates and breakers may be those of `settings.py`.

    Raises:
        InvalidJobError: with every setting that is wrong.
    """
    plain = {
        name: asdict(value) if isinstance(value, RateLimit | Breaker) else value
        for name, value in settings.items()
    }
    try:
        return model.model_validate(plain)
    except ValidationError as error:
        items = error.errors(include_url=False, include_input=False, include_context=False)
        raise InvalidJobError(
            {".".join(map(str, item["loc"])) or "settings": item["msg"] for item in items}
        ) from None


def refuse_contradictions(limits: QueueLimits) -> None:
    """Refuse settings that are right one by one and contradict each other.

    Raises:
        InvalidJobError: settings that cannot be meant together.
    """
    if limits.fifo and limits.key_concurrency not in {None, 1}:
        raise InvalidJobError(
            {"key_concurrency": "expected 1 or null with fifo: jobs of a key run one after the other"}
        )
