"""JSON Schemas of the types that build responses, made by pydantic."""

from collections.abc import Collection
from functools import cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

Json = dict[str, Any]

# Docstrings of attributes describe them.
_CONFIG = ConfigDict(use_attribute_docstrings=True)


class _ResponseJsonSchema(GenerateJsonSchema):
    """pydantic's JSON Schema without its titles and defaults, with nullable types as arrays of types."""

    def normalize_name(self, name: str) -> str:
        """Return a type's name in the document: `ImageResponse` is `Image`."""
        return super().normalize_name(name).removesuffix("Response")

    def field_title_should_be_set(self, _schema: Any) -> bool:
        """Return false: a title would repeat the field's name."""
        return False

    def field_is_required(
        self, field: core_schema.ModelField | core_schema.DataclassField | core_schema.TypedDictField, total: bool
    ) -> bool:
        """Return true for fields with a default: a response contains every field."""
        return super().field_is_required(field, total) or field["type"] == "dataclass-field"

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Return a field's schema without its default, which is about constructing the type."""
        return self.generate_inner(schema["schema"])

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        """Add null to the type of a schema, or make a union with null where the schema is a reference."""
        inner = self.generate_inner(schema["schema"])
        if isinstance(inner.get("type"), str) and "enum" not in inner:
            return {**inner, "type": [inner["type"], "null"]}
        return super().nullable_schema(schema)


def response_schemas(types: Collection[type]) -> tuple[dict[type, Json], dict[str, Json]]:
    """Return a reference to the schema of each type, and the schemas by name, those of nested types included."""
    return _response_schemas(tuple(sorted(set(types), key=lambda each: each.__name__)))


@cache
def _response_schemas(types: tuple[type, ...]) -> tuple[dict[type, Json], dict[str, Json]]:
    # pydantic accepts a configuration for a list of a type, not for the type itself.
    adapters = [(each, TypeAdapter(list[each], config=_CONFIG)) for each in types]  # type: ignore[valid-type]
    lists, definitions = TypeAdapter.json_schemas(
        [(each, "serialization", adapter) for each, adapter in adapters],
        ref_template="#/components/schemas/{model}",
        schema_generator=_ResponseJsonSchema,
    )
    schemas: dict[str, Json] = definitions["$defs"]
    return (
        {each: lists[each, "serialization"]["items"] for each in types},
        {name: _without_title(schema) for name, schema in schemas.items()},
    )


def _without_title(schema: Json) -> Json:
    return {key: value for key, value in schema.items() if key != "title"}
