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
from tailrace.client.tools import tool_of, tools_of
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
    """A tool as JSON types, where an empty list is as good as none; without the defaults, which only ours tells."""
    value = tool.model_dump(exclude_none=True)
    parameters = value["function"]["parameters"]
    for schema in (parameters.get("properties") or {}).values():
        schema.pop("default", None)
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
    """A union is ``anyOf``, which is JSON Schema; ollama-python joins the names of the types to one that is none."""
    theirs, ours = (made.model_dump()["function"]["parameters"] for made in _both(union))

    for name, kinds in (("a", ["integer", "string"]), ("b", ["number", "boolean"])):
        assert ours["properties"][name] == {"anyOf": [{"type": kind} for kind in kinds], "description": ""}
        assert sorted(theirs["properties"][name]["type"].split(", ")) == sorted(kinds)
    assert list(ours["required"]) == list(theirs["required"]) == ["a"]


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal[1, 2], {"type": "integer", "enum": [1, 2]}),
        (Colour, {"type": "string", "enum": ["blue", "red"], "title": "Colour"}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (list[Literal["a"]], {"type": "array", "items": {"type": "string", "enum": ["a"]}}),
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
    """Where somebody lives."""

    city: str
    floor: int = 0


class Tree(pydantic.BaseModel):
    value: int
    children: list["Tree"] = []


ADDRESS = {
    "title": "Address",
    "type": "object",
    "description": "Where somebody lives.",
    "properties": {
        "city": {"title": "City", "type": "string"},
        "floor": {"title": "Floor", "type": "integer", "default": 0},
    },
    "required": ["city"],
}


@dataclasses.dataclass
class Letter:
    to: Address


def schema_of(annotation: Any, *default: Any) -> dict[str, Any]:
    """The schema of a parameter with that annotation."""

    def function(a) -> None:  # type: ignore[no-untyped-def]
        pass

    function.__annotations__["a"] = annotation
    function.__defaults__ = default or None
    schema = properties(function)["a"]
    assert isinstance(schema, dict)
    return schema


def test_pydantic_annotations() -> None:
    """A model of pydantic's has its properties, wherever it stands; ollama-python makes a text of it."""
    assert schema_of(Address) == ADDRESS
    assert schema_of(list[Address])["items"] == ADDRESS
    assert schema_of(dict[str, Address])["additionalProperties"] == ADDRESS
    assert schema_of(Address | None) == ADDRESS
    assert schema_of(Address | int)["anyOf"] == [ADDRESS, {"type": "integer"}]
    assert schema_of(Letter)["properties"]["to"] == ADDRESS
    assert schema_of(Annotated[list[Address], pydantic.Field(min_length=1)]) == {
        "type": "array",
        "items": ADDRESS,
        "minItems": 1,
        "description": "",
    }


def test_a_schema_that_holds_itself() -> None:
    """A schema has no references; one that holds itself ends where it would begin again."""
    assert schema_of(Tree)["properties"]["children"]["items"] == {"type": "object"}


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (Annotated[int, "unit"], {"type": "integer", "description": "unit"}),
        (Annotated[int, pydantic.Field(description="d", ge=1)], {"type": "integer", "description": "d", "minimum": 1}),
        (Annotated[int, msgspec.Meta(description="d", le=9)], {"type": "integer", "description": "d", "maximum": 9}),
        (
            Annotated[int | None, pydantic.Field(description="d", lt=3)],
            {"type": "integer", "exclusiveMaximum": 3, "description": "d"},
        ),
        (Optional[Annotated[int, "d"]], {"type": "integer", "description": "d"}),  # noqa: UP045
        (
            list[Annotated[int, "d"]],
            {"type": "array", "items": {"type": "integer", "description": "d"}, "description": ""},
        ),
        (typing.NewType("Big", int), {"type": "integer", "description": ""}),
        (
            tuple[int, str],
            {
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "prefixItems": [{"type": "integer"}, {"type": "string"}],
                "items": False,
                "description": "",
            },
        ),
        (
            list[int | str],
            {"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "description": ""},
        ),
        (Literal["a", 1], {"type": ["string", "integer"], "enum": ["a", 1], "description": ""}),
    ],
    ids=str,
)
def test_annotations(annotation: Any, schema: dict[str, Any]) -> None:
    """Descriptions and limits of ``Annotated[…]``, and what may be of several types, are in the schema."""
    assert schema_of(annotation) == schema


@pytest.mark.parametrize(
    ("annotation", "default", "told"),
    [
        (int, 5, {"default": 5}),
        (str, "", {"default": ""}),
        (bool, False, {"default": False}),
        (Colour, Colour.RED, {"default": "red"}),
        (list[int], [1], {"default": [1]}),
        (int, pydantic.Field(5, description="d", ge=1), {"default": 5, "description": "d", "minimum": 1}),
        (int, pydantic.Field(description="d"), {"description": "d"}),
        (int | None, None, {}),
        (float, float("inf"), {}),
        (object, object(), {}),
    ],
    ids=["int", "str", "bool", "enum", "list", "Field", "Field, no default", "None", "infinite", "object"],
)
def test_defaults_are_told(annotation: Any, default: Any, told: dict[str, Any]) -> None:
    """A default is in the schema, unless it is None or nothing that JSON has."""
    without = schema_of(annotation)

    assert schema_of(annotation, default) == {**without, **told}


def numpy_style(city: str, days: int = 1, units: str = "") -> str:
    """Tell the weather.

    In some detail.

    Parameters
    ----------
    city : str
        Its name,
        in any language
    days, units : int, optional
        How it is told

    Returns
    -------
    str
        The weather.
    """
    return f"{city}{days}{units}"


def sphinx_style(city: str, days: int = 1, units: str = "") -> str:
    """Tell the weather.

    In some detail.

    :param city: Its name,
        in any language
    :type city: str
    :param int days: How it is told
    :param units: How it is told
    :returns: The weather.
    :raises ValueError: never
    """
    return f"{city}{days}{units}"


def epydoc_style(city: str, days: int = 1, units: str = "") -> str:
    """Tell the weather.

    In some detail.

    @param city: Its name,
        in any language
    @param days: How it is told
    @param units: How it is told
    @return: The weather.
    """
    return f"{city}{days}{units}"


@pytest.mark.parametrize("function", [numpy_style, sphinx_style, epydoc_style])
def test_other_docstrings(function: Callable[..., Any]) -> None:
    """NumPy's, Sphinx's and Epydoc's forms are read as Google's is: the summary, and a text for each argument."""
    tool = plain(tool_from_function(function))["function"]

    assert tool["description"].split() == ["Tell", "the", "weather.", "In", "some", "detail."]
    assert {name: schema["description"] for name, schema in tool["parameters"]["properties"].items()} == {
        "city": "Its name, in any language",
        "days": "How it is told",
        "units": "How it is told",
    }


def misleading(a: int) -> None:
    """Note: this is a text, and so is the rest.

    Example::

        misleading(1)
    """


def test_a_text_that_is_no_list() -> None:
    """A docstring without any such form is the description."""
    assert plain(tool_from_function(misleading))["function"]["description"].startswith("Note: this is a text")


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


def test_one_tool_is_a_list_of_one() -> None:
    """A function, a `Tool` or a dict alone is meant as a list; a text is none."""
    one: Any = [tool_of(plain_types)]

    assert (
        tools_of(plain_types) == tools_of(tool_from_function(plain_types)) == tools_of(one[0]) == tools_of(one) == one
    )
    assert tools_of(iter([plain_types])) == one
    with pytest.raises(errors.RequestError, match="tools is a list of functions, Tools or dicts, not str"):
        tools_of("plain_types")
    with pytest.raises(errors.RequestError, match="a tool holds something that is not JSON"):
        tools_of([{"function": {"name": object()}}])


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
