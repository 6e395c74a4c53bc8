"""What looking at models answers: what is used and why, what was written, how two compare, what a length costs."""

from pydantic import Field

from colbert_mcp.results.base import Result


class ModelValue(Result):
    """One thing that decides how texts are encoded, and where it comes from."""

    name: str
    value: str | int | bool | list[str] | None
    source: str = Field(description="a file of the checkpoint, a key of the configuration, or a default")


class ModelOutput(Result):
    """What is used of a model."""

    model: str
    values: list[ModelValue]
    remote_code: bool = Field(description="whether code of the model's own runs")
    notices: list[str]

    def value(self, name: str) -> str | int | bool | list[str] | None:
        """The value of that name."""
        return next(value.value for value in self.values if value.name == name)


class ModelWritten(Result):
    """A model directory that was written."""

    directory: str
    files: list[str]
    notes: list[str]


class ModelCheckOutput(Result):
    """How a model encodes the reference texts, and how far from it another one does, or the same in another layout."""

    model: str
    other: str | None
    texts: int
    cut: int = Field(description="texts of which only the beginning fits; it is what was compared")
    found_first: int = Field(description="texts that, as queries, score best with themselves")
    confused: list[str] = Field(description="the others, as 'text > what came first'")
    difference: float | None = Field(description="largest of any dimension of any token embedding; null without other")
    where: str | None = Field(description="the text and token of that difference, or what cannot be compared")
    same: bool = Field(description="whether both give the same embeddings, to 1e-4; true without other")


class LengthRow(Result):
    """What one document_length costs on the sample, and how well it ranks."""

    document_length: int
    current: bool = Field(description="whether it is the length that the configuration comes to now")
    trained: bool = Field(description="whether the model was trained for as much; true where it does not tell")
    chunks: int
    tokens: int
    bytes: int = Field(description="disk use of an index of the sample, Chroma included")
    seconds: float = Field(description="indexing it on this device, the model being loaded")
    ndcg_at_10: float | None = Field(description="on the labelled set; null without one")


class LengthsOutput(Result):
    """What passages of different lengths cost, measured on the user's own files."""

    model: str
    device: str
    dtype: str
    window: int | None
    sample_files: int
    sample_bytes: int
    total_files: int = Field(description="files that would be indexed, by their names and first bytes")
    total_bytes: int
    labelled: str | None = Field(description="what of the labelled set was used")
    rows: list[LengthRow]
    left_out: list[int] = Field(description="lengths beyond the backbone's window")
    notices: list[str]
