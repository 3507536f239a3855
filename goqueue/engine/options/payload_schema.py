"""The schema of a job type's payload, read from the annotations of its handler."""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
import warnings
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, create_model
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError
from typing_extensions import is_typeddict

from goqueue.engine.options.injection import payload_signature

__all__ = ["CallPayload", "hints_of", "is_object", "schema_of", "usable_schema"]

#: What pydantic needs of a model under these names.
_NAMES_OF_MODELS = frozenset(name for name in dir(BaseModel) if name.startswith("model_"))


class CallPayload(BaseModel):
    """The payload of a plain Dramatiq actor: the arguments of the call."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    args: list[Any] = []
    kwargs: dict[str, Any] = {}


def schema_of(
    function: Callable[..., Any],
) -> tuple[TypeAdapter[Any], typing.Literal["payload", "fields", "call"]]:
    """The payload's schema, read from the handler's annotations.

    One parameter annotated with a model, dataclass or TypedDict is the payload; several annotated ones are
    its fields; anything else is called as plain Dramatiq would. What is injected is no part of it.
    """
    parameters = list(payload_signature(function).parameters.values())
    named = {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY}
    annotated = inspect.get_annotations(function) if inspect.isroutine(function) else {}
    is_typed = all(p.kind in named and p.name in annotated for p in parameters)
    if not is_typed:
        return TypeAdapter(CallPayload), "call"
    hints = hints_of(function, {p.name: annotated[p.name] for p in parameters})
    if len(parameters) == 1 and is_object(hints[parameters[0].name]):
        return usable_schema(function, lambda: hints[parameters[0].name]), "payload"
    return usable_schema(function, lambda: _model_of(function.__name__, parameters, hints)), "fields"


def hints_of(function: Callable[..., Any], annotations: dict[str, Any]) -> dict[str, Any]:
    """Resolve annotations of parameters; what a handler returns is of no interest.

    Raises:
        ValueError: one is the name of something that the module does not have when it runs.
    """
    hints: dict[str, Any] = {}
    for name, annotation in annotations.items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            hints |= typing.get_type_hints(
                holder, getattr(inspect.unwrap(function), "__globals__", {}), include_extras=True
            )
        except Exception as error:
            raise ValueError(
                f"{function.__qualname__}: the annotation of the parameter {name!r} cannot be read: {error}; "
                "import it where the module runs, not under `if TYPE_CHECKING:`"
            ) from error
    return hints


def usable_schema(function: Callable[..., Any], annotation: Callable[[], Any]) -> TypeAdapter[Any]:
    """Return the schema of a function's payloads, by which they can be validated and described.

    Raises:
        ValueError: they cannot.
    """
    try:
        schema: TypeAdapter[Any] = TypeAdapter(annotation())
        schema.rebuild(raise_errors=True)
        schema.json_schema()
    except (PydanticUserError, PydanticUndefinedAnnotation, TypeError) as error:
        first = str(error).strip().splitlines()[0]
        raise ValueError(
            f"{function.__qualname__}: its annotations are no schema of a payload: {first}"
        ) from error
    return schema


def is_object(annotation: Any) -> bool:
    """Tell whether an annotation is a class whose values are objects in JSON."""
    return isinstance(annotation, type) and (
        issubclass(annotation, BaseModel) or dataclasses.is_dataclass(annotation) or is_typeddict(annotation)
    )


def _model_of(name: str, parameters: list[inspect.Parameter], hints: dict[str, Any]) -> type[BaseModel]:
    """A model whose fields are the parameters.

    Raises:
        ValueError: pydantic has no fields of such a name: nobody could ever give the parameter a value.
    """
    fields: dict[str, Any] = {
        p.name: (hints[p.name], ... if p.default is inspect.Parameter.empty else p.default)
        for p in parameters
    }
    config = ConfigDict(extra="forbid", hide_input_in_errors=True, protected_namespaces=())
    wrong = sorted(field for field in fields if field.startswith("_") or field in _NAMES_OF_MODELS)
    if not wrong:
        with warnings.catch_warnings():
            # A parameter may be called `json` or `copy`, as a method of models is.
            warnings.simplefilter("ignore", UserWarning)
            model = create_model(f"{name}_payload", __config__=config, **fields)
        wrong = sorted(fields.keys() - model.model_fields.keys())
    if wrong:
        raise ValueError(
            f"{name}: no payload can have a field {', '.join(map(repr, wrong))}: rename the parameter"
        )
    return model
