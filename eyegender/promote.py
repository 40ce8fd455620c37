"""`eyegender promote run=ID`: makes a run's model the champion of the registry, with a model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.core.callable_module import make_callable
from eyegender.core.command import command
from eyegender.core.imports import imports_of_command

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("promote", groups=("tracking",))
def main(cfg: DictConfig) -> None:
    from eyegender.core.options import PromoteOptions
    from eyegender.core.schema import parse_as

    options = parse_as(cfg, PromoteOptions)  # before torch is imported, so that a mistake is reported at once
    with imports_of_command():
        from eyegender.core.secrets import redact
        from eyegender.registry.model_card import CARD_FILE
        from eyegender.registry.promotion import promote
        from eyegender.tracking.tracking_store import open_store

    store = open_store(options.tracking)
    promotion = promote(store, options.run, name=options.name, alias=options.alias, force=options.force)
    for sentence in promotion.sentences:
        print(sentence)
    reference = f"models:/{promotion.name}@{promotion.alias}"
    print(f"{reference} is now version {promotion.version}, run {options.run}")
    print(f"Card     {CARD_FILE} in the artifacts of that run, and the description of the version")
    store_options = {"tracking.root": options.tracking.root, "tracking.uri": options.tracking.uri}
    overrides = "".join(f" {key}={redact(value)}" for key, value in store_options.items() if value)
    print(f"Use      eyegender predict model={reference} images=DIR{overrides}")


make_callable(__name__, "eyegender.api.promoting.promote")

if __name__ == "__main__":
    main()
