"""Converts pydantic models to structural OpenAPI v3 schemas, the form that a Kubernetes API server accepts.

Pydantic's references, ``anyOf`` with null, ``patternProperties`` and numeric bounds are rewritten. An optional field is
absent, never null: the server removes nulls. A model that has no structural form raises an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from rstar_operator.crd.descriptions import describe
from rstar_operator.crd.rules import LIST_KEYS, RULES, Rule

Schema = dict[str, Any]

INT_OR_STRING: Final = "x-kubernetes-int-or-string"
PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
_EXACT: Final = 2**53
"""The API server compares bounds as doubles. A larger one would not be exact; int64 then bounds the value."""


class _WithFactories(GenerateJsonSchema):
    """Gives a field with a default factory the default ``{}``, which the server fills from the defaults inside."""

    def get_default_value(self, schema: Any) -> Any:
        factory = schema.get("default_factory")
        return {} if factory is not None else super().get_default_value(schema)


def structural(model: type[BaseModel], *, defaults: bool, partial: bool = False) -> Schema:
    """Return the schema of ``model``; with ``defaults``, the server fills in what a user leaves out.

    ``partial``: every key may be absent, and no rule compares keys, as in a template that others complete.
    """
    root: JsonSchemaValue = model.model_json_schema(by_alias=True, schema_generator=_WithFactories)
    definitions = root.pop("$defs", {})
    return _Converter(definitions, defaults, partial).convert(root)


class _Converter:
    def __init__(self, definitions: Mapping[str, Schema], defaults: bool, partial: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults
        self._partial = partial

    def convert(self, node: Schema) -> Schema:
        """Return ``node`` and all below it in structural form."""
        node, about = self._resolve(node)
        if INT_OR_STRING in node:
            schema = _int_or_string(node)
        elif node.get("type") == "object":
            schema = self._object(node)
        elif node.get("type") == "array":
            schema = self._array(node)
        else:
            schema = _scalar(node)
        if not self._defaults:
            node = {key: value for key, value in node.items() if key != "default"}
        if node.get("default") is not None:
            schema["default"] = node["default"]
        description = describe(node, about)
        return {"description": description, **schema} if description else schema

    def _resolve(self, node: Schema) -> tuple[Schema, str]:
        """Return ``node`` without ``anyOf`` null and ``$ref``, and the docstring of the model it referred to."""
        if "anyOf" in node:
            [inner] = [option for option in node["anyOf"] if option != {"type": "null"}]
            node = {**inner, **{key: value for key, value in node.items() if key != "anyOf"}}
        if "$ref" not in node:
            return node, ""
        target = self._definitions[node["$ref"].rpartition("/")[2]]
        siblings = {key: value for key, value in node.items() if key != "$ref"}
        return {**target, **siblings}, target.get("description", "")

    def _object(self, node: Schema) -> Schema:
        schema: Schema = {"type": "object"}
        if "properties" in node:
            schema["properties"] = {name: self.convert(child) for name, child in node["properties"].items()}
            if self._partial:
                return schema
            if required := node.get("required"):
                schema["required"] = required
            if rules := RULES.get(node["title"]):
                schema["x-kubernetes-validations"] = [rule.plain() for rule in rules]
            return schema
        if "maxProperties" in node:
            schema["maxProperties"] = node["maxProperties"]
        if "patternProperties" in node:
            [(pattern, values)] = node["patternProperties"].items()
            longest = node["propertyNames"]["maxLength"]
            schema["additionalProperties"] = self.convert(values)
            if not self._partial:
                schema["x-kubernetes-validations"] = [_keys(pattern, longest).plain()]
        elif isinstance(node.get("additionalProperties"), dict):
            schema["additionalProperties"] = self.convert(node["additionalProperties"])
        else:
            schema[PRESERVE] = True
        return schema

    def _array(self, node: Schema) -> Schema:
        item, _ = self._resolve(node["items"])
        schema: Schema = {"type": "array", "items": self.convert(node["items"])}
        if "maxItems" in node:
            schema["maxItems"] = node["maxItems"]
        keys = LIST_KEYS.get(item.get("title", ""))
        if keys and not self._partial:
            schema["x-kubernetes-list-type"] = "map"
            schema["x-kubernetes-list-map-keys"] = list(keys)
        return schema


def _scalar(node: Schema) -> Schema:
    kind = node["type"]
    schema: Schema = {"type": kind}
    if form := {"integer": "int64", "number": "double"}.get(kind, node.get("format")):
        schema["format"] = form
    schema |= {key: node[key] for key in ("enum", "minLength", "maxLength", "pattern") if key in node}
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        limit = node.get(bound, node.get(exclusive))
        if limit is not None and abs(limit) < _EXACT:
            schema[bound] = limit
            if exclusive in node:
                schema[exclusive] = True
    return schema


def _int_or_string(node: Schema) -> Schema:
    """Return the schema of a quantity, ``2`` and ``"500m"`` alike: the pattern binds the text, the minimum the number."""
    return {
        "anyOf": [{"type": "integer"}, {"type": "string"}],
        INT_OR_STRING: True,
        "minimum": 1,
        "maxLength": node["maxLength"],
        "pattern": node["pattern"],
    }


def _keys(pattern: str, longest: int) -> Rule:
    return Rule(
        f"self.all(key, size(key) <= {longest} && key.matches(r'{pattern}'))",
        f"every key must have the form {pattern}",
    )
