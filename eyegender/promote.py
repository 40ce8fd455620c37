"""`python -m eyegender.promote run=ID`: a run's model becomes the registry's champion, with a model card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.core.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("promote", groups=("tracking",))
def main(cfg: DictConfig) -> None:
    from eyegender.core.options import PromoteOptions
    from eyegender.core.schema import parse_as

    options = parse_as(cfg, PromoteOptions)  # before torch is imported: a mistake shows at once
    from eyegender.core.secrets import redact
    from eyegender.registry.model_card import CARD_FILE
    from eyegender.registry.promotion import promote
    from eyegender.tracking.tracking_store import open_store

    store = open_store(options.tracking)
    done = promote(store, options.run, name=options.name, alias=options.alias, force=options.force)
    for sentence in done.sentences:
        print(sentence)
    print(f"models:/{done.name}@{done.alias} is now version {done.version}, run {options.run}")
    print(f"Card     {CARD_FILE} of that run, and the version's description")
    given = {"tracking.root": options.tracking.root, "tracking.uri": options.tracking.uri}
    where = "".join(f" {key}={redact(value)}" for key, value in given.items() if value)
    print(f"Use      python -m eyegender.predict model=models:/{done.name}@{done.alias} images=DIR{where}")


if __name__ == "__main__":
    main()
