"""What all answers have in common."""

from pydantic import BaseModel, ConfigDict


class Result(BaseModel):
    """Base of all answers: frozen, and strict about what it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid")
