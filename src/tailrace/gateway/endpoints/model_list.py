"""Model list: the models of all upstreams, as one list."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tailrace.client.aio import AsyncClient
from tailrace.gateway.context import GatewayContext
from tailrace.types import ListedModel

__all__ = ["find", "listed", "name_of"]


async def listed(context: GatewayContext) -> list[ListedModel]:
    """Returns the models of all upstreams that tell, each name once, and the aliases of those that are there.

    Raises:
        TailraceError: no upstream tells.
    """
    answers = await context.upstreams.gather(AsyncClient.list)
    models: dict[str, ListedModel] = {}
    for model in (model for answer in answers for model in answer.models):
        models.setdefault(name_of(model), model)
    for alias, target in context.settings.aliases.items():
        found = find(models.values(), target)
        if found is not None:
            models.setdefault(alias, msgspec.structs.replace(found, name=alias, model=alias))
    models.pop("", None)
    return list(models.values())


def find(models: Iterable[ListedModel], name: str) -> ListedModel | None:
    """Returns the model of this name; None if there is none. ``latest`` may be left out, as Ollama lets one."""
    wanted = {name, f"{name}:latest"}
    return next((model for model in models if name_of(model) in wanted), None)


def name_of(model: ListedModel) -> str:
    """Returns a model's name."""
    return model.model or model.name or ""
