"""The JSON schema of profiles and plans, for editors."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core.core_schema import NullableSchema

from ragcun_cli.spec.plan import PlanFile
from ragcun_cli.spec.profile import RunProfile


class _OfToml(GenerateJsonSchema):
    def nullable_schema(self, schema: NullableSchema) -> JsonSchemaValue:
        """What may be unset: TOML has no null."""
        inner = super().nullable_schema(schema)
        return {"anyOf": [*inner["anyOf"], {"const": "none"}]}


def json_schema(*, of_plan: bool) -> dict[str, Any]:
    """Of a plan, or of any file: a plan where it names experiments, and an experiment else."""
    kinds: list[tuple[type[BaseModel], Literal["validation"]]] = [
        (PlanFile, "validation"),
        (RunProfile, "validation"),
    ]
    schema = models_json_schema(kinds, schema_generator=_OfToml)[1]
    plan, profile = (schema["$defs"][kind.__name__]["properties"] for kind, _ in kinds)
    laid_over = {key: value for key, value in profile.items() if key != "name"}
    plan["overrides"] |= {"properties": laid_over, "additionalProperties": False}
    profile["extends"] = {
        "description": "Profile by name or path whose values hold where this file has none.",
        "type": "string",
    }
    a_plan, a_profile = ({"$ref": f"#/$defs/{kind.__name__}"} for kind, _ in kinds)
    if of_plan:
        return schema | a_plan
    return schema | {"if": {"required": ["experiments"]}, "then": a_plan, "else": a_profile}
