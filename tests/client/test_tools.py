"""Tools from functions, beside ollama-python's: the same functions through both, and every difference on purpose."""

# No `from __future__ import annotations` here: ollama-python does not read annotations that are strings.

import dataclasses
import enum
import functools
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Optional, TypedDict, Union

import msgspec
import pydantic
import pytest
from ollama._utils import convert_function_to_tool

from tailrace import Tool, errors, tool_from_function
from tailrace.client.tools import tool_of
from tailrace.types import plain


class Place(TypedDict):
    city: str
    zip: int


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


class Record(msgspec.Struct):
    name: str


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


# -- functions that both libraries read the same way -----------------------------------------------------------------


def nothing() -> None:
    pass


def plain_types(a: int, b: str, c: float, d: bool) -> str:
    """Takes one of each.

    Args:
        a: an integer
        b: a text
        c: a number
        d: a truth
    """
    return f"{a}{b}{c}{d}"


def unannotated(a, b=1):  # type: ignore[no-untyped-def]
    """Has no annotations."""
    return a, b


def defaults(a: int, b: str = "x", c: float | None = 1.0) -> None:
    """Has defaults: they stay required, unless None is allowed."""


def optionals(a: int | None, b: Optional[str] = None, c: Union[float, None] = None) -> None:  # noqa: UP007, UP045
    """Has what may be None, written in all ways."""


def returns(a: int) -> int:
    """Sums.

    Args:
        a: what

    Returns:
        int: the sum
    """
    return a


def yields(a: int) -> typing.Iterator[int]:
    """Counts.

    Args:
        a: what
    Yields:
        numbers: one by one
    """
    yield a


def raises(a: int) -> None:
    """Fails.

    Args:
        a: what

    Raises:
        ValueError: always
    """


def types_in_docstring(a: int, b: int, c: int) -> None:
    """Forms of an argument.

    Args:
        a: plain
        b (int): with a type
        c(int) : with a type and odd blanks
    """


def continued(a: int, b: int) -> None:
    """Long texts.

    Args:
        a: goes on
            in the next line
            and the one after
        b: short
    """


def shouting(a: int) -> None:
    """Headings in any case.

    ARGS:
        a: what
    RETURNS:
        nothing
    """


def without_docstring(a: int) -> None:
    pass


def empty_docstring(a: int) -> None:
    """"""


def only_args(a: int) -> None:
    """
    Args:
        a: what
    """


def other_names(a: int) -> None:
    """Speaks of others.

    Args:
        b: not there
    """


def chinese(城市: str) -> str:  # noqa: N803, PLC2401
    """查询天气。

    Args:
        城市: 城市名称
    """
    return 城市


def colons(a: str) -> None:
    """Has colons.

    Args:
        a: as in http://host:port
    """


async def asynchronous(a: int) -> int:
    """Is a coroutine function.

    Args:
        a: what
    """
    return a


def keyword_only(a: int, *, b: int) -> None:
    """Has a keyword-only parameter."""


SAME: list[Callable[..., Any]] = [
    *(nothing, plain_types, unannotated, optionals, defaults, returns, yields, raises, types_in_docstring, continued),
    *(shouting, without_docstring, empty_docstring, only_args, other_names, chinese, colons, asynchronous),
    *(keyword_only,),
]


def normal(tool: Any) -> Any:
    """A tool as JSON types, where an empty list is as good as none."""
    value = tool.model_dump(exclude_none=True)
    parameters = value["function"]["parameters"]
    for name in ("required", "properties"):
        parameters[name] = parameters.get(name) or None
    return value


@pytest.mark.parametrize("function", SAME, ids=lambda function: function.__name__)
def test_the_same_tool(function: Callable[..., Any]) -> None:
    """These functions make the same tool in both libraries."""
    assert normal(tool_from_function(function)) == normal(convert_function_to_tool(function))


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        (int, "integer"),
        (str, "string"),
        (float, "number"),
        (bool, "boolean"),
        (list, "array"),
        (list[int], "array"),
        (tuple[int, ...], "array"),
        (set[str], "array"),
        (Sequence[str], "array"),
        (dict, "object"),
        (dict[str, int], "object"),
        (Mapping[str, Any], "object"),
        (Any, "string"),
        (Literal["a", "b"], "string"),
        (Literal[1, 2], "integer"),
        (bytes, "string"),
        (Annotated[int, "unit"], "integer"),
        (int | None, "integer"),
        (Optional[list[str]], "array"),  # noqa: UP045
    ],
    ids=str,
)
def test_types(annotation: Any, kind: str) -> None:
    """Each annotation has the same type in both libraries, and is required or not in both."""

    def function(a) -> None:  # type: ignore[no-untyped-def]
        pass

    function.__annotations__["a"] = annotation
    theirs, ours = (normal(made)["function"]["parameters"] for made in _both(function))

    assert ours["properties"]["a"]["type"] == theirs["properties"]["a"]["type"] == kind
    assert ours["required"] == theirs["required"]


def _both(function: Callable[..., Any]) -> tuple[Any, Any]:
    return convert_function_to_tool(function), tool_from_function(function)


def properties(function: Callable[..., Any]) -> dict[str, Any]:
    schema = plain(tool_from_function(function))["function"]["parameters"]["properties"]
    assert isinstance(schema, dict)
    return schema


# -- differences on purpose ------------------------------------------------------------------------------------------


def union(a: int | str, b: float | bool | None = None) -> None:
    pass


def test_unions() -> None:
    """A union names all its types; ours in alphabetical order, ollama-python's in the order of a set's hashing."""
    theirs, ours = (made.model_dump()["function"]["parameters"] for made in _both(union))

    for name, kinds in (("a", "integer, string"), ("b", "boolean, number")):
        assert ours["properties"][name]["type"] == kinds
        assert sorted(theirs["properties"][name]["type"].split(", ")) == kinds.split(", ")
    assert list(ours["required"]) == list(theirs["required"]) == ["a"]


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal[1, 2], {"type": "integer", "enum": [1, 2]}),
        (Colour, {"type": "string", "enum": ["blue", "red"], "title": "Colour"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (list[Literal["a"]], {"type": "array", "items": {"enum": ["a"]}}),
        (dict[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (
            Place,
            {
                "type": "object",
                "title": "Place",
                "properties": {"city": {"type": "string"}, "zip": {"type": "integer"}},
                "required": ["city", "zip"],
            },
        ),
        (
            Point,
            {
                "type": "object",
                "title": "Point",
                "properties": {"x": {"type": "integer"}, "y": {"type": "number", "default": 0.0}},
                "required": ["x"],
            },
        ),
        (
            list[Record],
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "title": "Record",
                    "properties": {"name": {"type": "string"}},
                    "required": ["name"],
                },
            },
        ),
    ],
    ids=str,
)
def test_what_is_kept(annotation: Any, schema: dict[str, Any]) -> None:
    """What ollama-python drops (choices, items, members) is kept, in place, for models do not follow references."""

    def function(a) -> None:  # type: ignore[no-untyped-def]
        pass

    function.__annotations__["a"] = annotation

    assert properties(function)["a"] == {**schema, "description": ""}


def variadic(a: int, *args: int, **kwargs: str) -> None:
    """Takes more.

    Args:
        a: what
        *args: more
        **kwargs: named
    """


def test_args_and_kwargs() -> None:
    """``*args`` and ``**kwargs`` are left out: no model can fill them; ollama-python makes them required parameters."""
    theirs, ours = (made.model_dump()["function"]["parameters"] for made in _both(variadic))

    assert list(theirs["properties"]) == ["a", "args", "kwargs"]
    assert ours["properties"] == {"a": {"type": "integer", "description": "what"}}
    assert ours["required"] == ["a"]


def strings(a: "int", b: "list[Place]", c: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821
    pass


def resolved(a: "int", b: "list[Place]") -> None:
    pass


def test_annotations_that_are_strings() -> None:
    """String annotations are read too; if one of them cannot be resolved, all are texts. ollama-python raises."""
    with pytest.raises(pydantic.errors.PydanticUserError):
        convert_function_to_tool(resolved)

    assert properties(resolved)["a"] == {"type": "integer", "description": ""}
    assert properties(resolved)["b"]["items"]["required"] == ["city", "zip"]
    assert {name: schema["type"] for name, schema in properties(strings).items()} == dict.fromkeys("abc", "string")


def arguments_heading(a: int) -> None:
    """Says Arguments.

    Arguments:
        a: what
    """


def parameters_heading(a: int) -> None:
    """Says Parameters.

    Parameters:
        a: what
    Examples:
        b: none
    """


@pytest.mark.parametrize("heading", ["Arguments", "Parameters"])
def test_other_headings(heading: str) -> None:
    """``Arguments:`` and ``Parameters:`` head the block too, and ``Examples:`` ends it; not so in ollama-python."""
    function = {"Arguments": arguments_heading, "Parameters": parameters_heading}[heading]
    theirs, ours = (made.model_dump()["function"] for made in _both(function))

    assert f"{heading}:" in theirs["description"]
    assert ours["description"] == f"Says {heading}."
    assert ours["parameters"]["properties"] == {"a": {"type": "integer", "description": "what"}}


class Service:
    """A thing with methods."""

    factor = 2

    def scale(self, a: int) -> int:
        """Scales.

        Args:
            a: what
        """
        return a * self.factor

    @staticmethod
    def still(a: int) -> int:
        """Does nothing."""
        return a

    def __call__(self, a: int) -> int:
        """Is called.

        Args:
            a: what
        """
        return a


@pytest.mark.parametrize("function", [Service().scale, Service.still])
def test_methods(function: Callable[..., Any]) -> None:
    """Methods are tools without their ``self``, as in ollama-python."""
    assert normal(tool_from_function(function)) == normal(convert_function_to_tool(function))


class Address(pydantic.BaseModel):
    city: str


def test_pydantic_annotations() -> None:
    """A pydantic model as an annotation is a text to both libraries."""

    def function(a) -> None:  # type: ignore[no-untyped-def]
        pass

    function.__annotations__["a"] = Address

    theirs = normal(convert_function_to_tool(function))["function"]["parameters"]["properties"]
    assert properties(function) == theirs == {"a": {"type": "string", "description": ""}}


# -- what a tool may be ----------------------------------------------------------------------------------------------


def test_a_dict_is_a_tool() -> None:
    """A dict goes as it is; only its type is added where it is missing. The caller's dict is not changed."""
    given = {"function": {"name": "f", "x": [1]}, "y": None}

    assert tool_of(given) == {"type": "function", "function": {"name": "f", "x": [1]}, "y": None}
    assert given == {"function": {"name": "f", "x": [1]}, "y": None}
    assert tool_of({"type": "web_search", "z": 1}) == {"type": "web_search", "z": 1}


def test_tools_of_both_libraries() -> None:
    """Our `Tool` and ollama-python's go out the same."""
    theirs, ours = _both(plain_types)

    assert tool_of(ours) == tool_of(theirs)
    assert isinstance(ours, Tool)


@pytest.mark.parametrize("tool", [None, 5, "name", ["list"], object()], ids=["None", "5", "name", "list", "object"])
def test_what_is_no_tool(tool: Any) -> None:
    """Anything else is a RequestError that names its type."""
    with pytest.raises(errors.RequestError, match=f"not {type(tool).__name__}$"):
        tool_of(tool)


@pytest.mark.parametrize(
    "tool", [Service(), functools.partial(plain_types, 1), dict], ids=["object", "partial", "dict"]
)
def test_callables_that_are_no_functions(tool: Any) -> None:
    """What has no name or no parameters to read is a RequestError; ollama-python fails in its own ways."""
    with pytest.raises((AttributeError, ValueError)):
        convert_function_to_tool(tool)
    with pytest.raises(errors.RequestError, match="a tool is a function with a name and parameters"):
        tool_of(tool)
