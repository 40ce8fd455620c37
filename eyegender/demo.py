"""`python -m eyegender.demo`: a web page on this machine where a picture gets its probability and its Grad-CAM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eyegender.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("demo", groups=("tracking",))
def main(cfg: DictConfig) -> None:
    from eyegender.schema import parse_as
    from eyegender.using.options import DemoOptions

    options = parse_as(cfg, DemoOptions)  # before torch is imported: a mistake shows at once
    import uvicorn

    from eyegender.using.demo_choices import find_choices
    from eyegender.using.demo_page import LOOPBACK, demo_app
    from eyegender.using.loaded_model import load_model
    from eyegender.using.tracking_store import open_store

    choices = find_choices(open_store(options.tracking), options.tracking.experiment, options.models)
    app = demo_app(choices, lambda reference: load_model(reference, options.tracking), host=options.host)
    server = uvicorn.Server(uvicorn.Config(app, host=options.host, port=options.port, log_level="warning"))
    if options.host not in LOOPBACK:
        print(f"NOT ONLY YOU: on {options.host} everybody who reaches this machine can use the page; no password asked")
    print(f"Open     http://{options.host}:{options.port}   (Ctrl-C ends it)", flush=True)
    server.run()


if __name__ == "__main__":
    main()
