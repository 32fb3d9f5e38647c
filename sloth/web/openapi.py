"""The OpenAPI document of the JSON API, made from the table of views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sloth import __version__
from sloth.web.plain import Schemas
from sloth.web.view import LARGEST_NUMBER, LONGEST, Kind, Parameter, View

if TYPE_CHECKING:
    from sloth.payload.kernel.values import JsonObject

_ERRORS = {
    "400": "A parameter is wrong.",
    "401": "The token is missing or wrong.",
    "404": "There is no such thing.",
    "503": "The controller's files cannot be read, or a query took too long.",
}


def document(views: Sequence[View]) -> JsonObject:
    """Return the document."""
    schemas = Schemas()
    paths = {view.api_path: {"get": _operation(view, schemas)} for view in views}
    schemas.found["Error"] = {
        "type": "object",
        "properties": {"error": {"type": "string"}, "hint": {"type": "string"}},
        "required": ["error", "hint"],
        "additionalProperties": False,
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "sloth-runner", "version": __version__, "description": "What the controller remembers."},
        "paths": paths,
        "components": {
            "schemas": schemas.found,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(view: View, schemas: Schemas) -> JsonObject:
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    responses: JsonObject = {
        "200": {"description": view.title, "content": {"application/json": {"schema": schemas.of(view.result)}}}
    }
    for status, text in _ERRORS.items():
        responses[status] = {"description": text, "content": {"text/plain": {}} if status == "401" else error}
    return {
        "operationId": view.name,
        "summary": view.title,
        "parameters": [_parameter(one, "path") for one in view.path_parameters]
        + [_parameter(one, "query") for one in view.parameters],
        "responses": responses,
    }


def _parameter(parameter: Parameter, place: str) -> JsonObject:
    schema: JsonObject = {"type": "string", "maxLength": LONGEST, "pattern": r"^[^\x00]*$"}
    if parameter.kind is Kind.NUMBER:
        schema = {"type": "integer", "minimum": 0, "maximum": LARGEST_NUMBER}
    elif parameter.kind is Kind.CHOICE:
        schema = {"type": "string", "enum": list(parameter.choices)}
    if place == "path":
        schema["minLength"] = 1
    return {
        "name": parameter.name,
        "in": place,
        "required": place == "path",
        "description": parameter.help,
        "schema": schema,
    }
