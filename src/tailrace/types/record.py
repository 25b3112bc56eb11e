"""Records: structs with the habits of ollama-python's classes.

A record is a struct of msgspec's, as quick to decode and to copy as any. What pydantic's classes do besides is done in
Python, only where somebody asks for it: being made of dicts, of numbers as text and so on (`building`), being written
as a dict (`dumping`), and being a field or a response of pydantic's and FastAPI's (`interop`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import msgspec

from tailrace.errors import RequestError
from tailrace.types import building, dumping
from tailrace.types.dumping import Chosen

__all__ = ["Record", "construct"]

construct: Callable[..., Any] = msgspec.StructMeta.__call__
"""Makes a record of values that are right already: ``construct(Message, "user", "hi")``."""


class _RecordMeta(msgspec.StructMeta):
    """Has what a record is made of converted. Decoding and copying make records without it."""

    if not TYPE_CHECKING:  # a type checker reads the signature off the fields

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return building.made(self, construct, args, kwargs)

    @property
    def model_fields(self) -> dict[str, building.Field]:
        """The fields by name (the name is pydantic's)."""
        return dict(building.fields_of(self))

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), "model_fields"]  # AutoGen looks for it with inspect.getmembers


class Record(msgspec.Struct, metaclass=_RecordMeta, repr_omit_defaults=True):
    """Base of the public records: attributes, the habits of a mapping, and those of pydantic's models.

    Names that it does not know are passed over, as ollama-python does; values are converted to what the fields hold.
    """

    _refuses_unknown: ClassVar[bool] = False
    __dataclass_fields__: ClassVar[Any] = building.AsDataclass()
    __dataclass_params__: ClassVar[Any] = building.AsDataclass()

    def __getitem__(self, key: str) -> Any:
        value = getattr(self, key, None) if key in self.__struct_fields__ else None
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        setattr(self, key, value)

    def __contains__(self, key: object) -> bool:
        return key in self.__struct_fields__ and getattr(self, str(key)) is not None

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return ((name, getattr(self, name)) for name in self.__struct_fields__)

    def get(self, key: str, default: Any = None) -> Any:
        """Returns the field, or `default` if it is not set."""
        value = getattr(self, key, None) if key in self.__struct_fields__ else None
        return default if value is None else value

    def keys(self) -> list[str]:
        """Names of the fields that are set; makes ``dict(record)`` work."""
        return [name for name in self.__struct_fields__ if getattr(self, name) is not None]

    # -- the names of pydantic, for code written for ollama-python -----------------------------------------------------

    @property
    def model_fields_set(self) -> set[str]:
        """Names of the fields that are set."""
        return set(self.keys())

    @classmethod
    def model_validate(
        cls, obj: Any, *, strict: bool | None = None, from_attributes: bool | None = None, context: Any = None
    ) -> Self:
        """Returns a record made of a dict, or of a record or another object with these attributes.

        Args:
            obj: what it is made of.
            strict: take no text for a number.
            from_attributes: take any object that has the fields as attributes.
            context: is of no use here.

        Raises:
            RequestError: it cannot be made of that; the text says where.
        """
        made: Self = building.validated(cls, obj, strict=bool(strict), from_attributes=bool(from_attributes))
        return made

    @classmethod
    def model_validate_json(
        cls, json_data: str | bytes | bytearray, *, strict: bool | None = None, context: Any = None
    ) -> Self:
        """Returns a record made of JSON.

        Raises:
            RequestError: it is no JSON, or a record cannot be made of it; the text says where.
        """
        try:
            given = msgspec.json.decode(json_data)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise RequestError(f"{cls.__name__} is not made of JSON: {error}") from error
        made: Self = building.validated(cls, given, strict=bool(strict))
        return made

    @classmethod
    def model_construct(cls, _fields_set: set[str] | None = None, **values: Any) -> Self:
        """Returns a record of values that are taken as they are."""
        known = {name: value for name, value in values.items() if name in cls.__struct_fields__}
        record: Self = construct(cls, **known)
        return record

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Returns a copy with some fields changed; `deep` copies what they hold as well.

        Raises:
            RequestError: a name of `update` is none of the fields.
        """
        made = copy.deepcopy(self) if deep else copy.copy(self)
        for name, value in (update or {}).items():
            if name not in self.__struct_fields__:
                fields = ", ".join(self.__struct_fields__)
                raise RequestError(f"{type(self).__name__} has no field {name!r}; there are: {fields}")
            setattr(made, name, value)
        return made

    def model_dump(
        self,
        *,
        mode: Literal["python", "json"] | str = "python",
        include: Chosen = None,
        exclude: Chosen = None,
        context: Any = None,
        by_alias: bool | None = None,
        exclude_unset: bool = False,
        exclude_defaults: bool = False,
        exclude_none: bool = False,
        exclude_computed_fields: bool = False,
        round_trip: bool = False,
        warnings: bool | str = True,
        fallback: Callable[[Any], Any] | None = None,
        serialize_as_any: bool = False,
    ) -> dict[str, Any]:
        """Returns a plain dictionary.

        Args:
            mode: ``"json"`` has only JSON types; ``"python"`` leaves times as they are.
            include: names of fields, or a dict of names to what is taken of them; others are left out.
            exclude: names of fields, or a dict of names to what is left out of them.
            context: is of no use here, as are `exclude_computed_fields`, `round_trip`, `warnings`, `serialize_as_any`.
            by_alias: name fields as the wire does (``model_info``, ``$defs``).
            exclude_unset: leave out what is not set, which here is what is None.
            exclude_defaults: leave out what has its default.
            exclude_none: leave out what is None.
            fallback: makes JSON types of what has no form in JSON.

        Raises:
            RequestError: `mode` is neither, or an image cannot be read.
        """
        if mode not in ("python", "json"):
            raise RequestError(f"mode is 'python' or 'json', not {mode!r}")
        return dumping.dumped(
            self,
            dumping.Manner(
                json=mode == "json",
                by_alias=bool(by_alias),
                exclude_none=exclude_none or exclude_unset,
                exclude_defaults=exclude_defaults,
                fallback=fallback,
            ),
            include,
            exclude,
        )

    def model_dump_json(self, *, indent: int | None = None, ensure_ascii: bool = False, **rest: Any) -> str:
        """Returns JSON.

        Args:
            indent: spaces of each level; None: all in one line, without spaces.
            ensure_ascii: write other characters as escapes.
            rest: as for `model_dump`.

        Raises:
            RequestError: as for `model_dump`.
        """
        if "mode" in rest:
            raise TypeError("model_dump_json() got an unexpected keyword argument 'mode'")
        return dumping.as_json(self.model_dump(mode="json", **rest), indent, ensure_ascii=ensure_ascii)

    @classmethod
    def model_json_schema(
        cls, by_alias: bool = True, ref_template: str = "#/$defs/{model}", **_: Any
    ) -> dict[str, Any]:
        """Returns the JSON Schema of such records."""
        (schema,), definitions = msgspec.json.schema_components(
            [cls], ref_template=ref_template.replace("{model}", "{name}")
        )
        own = definitions.pop(schema["$ref"].rpartition("/")[2])
        return {**own, "$defs": definitions} if definitions else own

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from tailrace.types import interop

        return interop.core_schema_of(cls)

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> dict[str, Any]:
        from tailrace.types import interop

        return interop.json_schema_of(cls)
