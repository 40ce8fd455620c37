"""`eyegender demo`: a web page on this machine that shows the prediction and the Grad-CAM of an image."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from eyegender.core.command import command
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

_FIXES = {
    errno.EADDRINUSE: "another program uses it; set another port=, or port=0 for any free port",
    errno.EACCES: "ports below 1024 are reserved for the system; set port=1024 or more",
}


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the host and port.

    Raises:
        UserError: the port is in use or forbidden, or the host is not this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        fix = _FIXES.get(error.errno or 0, "set host= to a name or address of this machine")
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise UserError(
            f"the page needs a free port of this machine, got host={host} port={port} ({reason}); {fix}"
        ) from error


@command("demo", groups=("tracking",))
def main(cfg: DictConfig) -> None:
    from eyegender.core.options import DemoOptions
    from eyegender.core.schema import parse_as

    options = parse_as(cfg, DemoOptions)  # before torch is imported, so that a mistake is reported at once
    with listen(options.host, options.port) as listener:
        import uvicorn

        from eyegender.inference.demo_models import example_of, find_models
        from eyegender.inference.demo_page import LOOPBACK, demo_app
        from eyegender.inference.load import load_model
        from eyegender.tracking.tracking_store import open_store

        store = open_store(options.tracking)
        offer = find_models(store, options.tracking.experiment, options.models)
        app = demo_app(
            offer,
            lambda reference: load_model(reference, options.tracking),
            lambda model: example_of(store, model),
            host=options.host,
        )
        server = uvicorn.Server(uvicorn.Config(app, host=options.host, log_level="warning"))
        if options.host not in LOOPBACK:
            print(
                f"Warning: the page listens on {options.host}; anyone who can reach this machine can use it without a "
                "password"
            )
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"Open     http://{host}:{listener.getsockname()[1]}   (press Ctrl-C to stop)", flush=True)
        server.run(sockets=[listener])


if __name__ == "__main__":
    main()
