"""`python -m eyegender.demo`: a web page on this machine where a picture gets its probability and its Grad-CAM."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

from eyegender.core.command import command
from eyegender.core.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

_REPAIRS = {
    errno.EADDRINUSE: "another program listens there; set another port=, or port=0 for any that is free",
    errno.EACCES: "ports below 1024 are the system's; set port=1024 or more",
}


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        UserError: the port is taken or forbidden, or the host is not this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        repair = _REPAIRS.get(error.errno or 0, "set host= to a name or address of this machine")
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise UserError(
            f"the page needs a free port of this machine, got host={host} port={port} ({reason}); {repair}"
        ) from error


@command("demo", groups=("tracking",))
def main(cfg: DictConfig) -> None:
    from eyegender.core.options import DemoOptions
    from eyegender.core.schema import parse_as

    options = parse_as(cfg, DemoOptions)  # before torch is imported: a mistake shows at once
    with listen(options.host, options.port) as door:
        import uvicorn

        from eyegender.inference.demo_choices import find_choices
        from eyegender.inference.demo_page import LOOPBACK, demo_app
        from eyegender.inference.load import load_model
        from eyegender.tracking.tracking_store import open_store

        choices = find_choices(open_store(options.tracking), options.tracking.experiment, options.models)
        app = demo_app(choices, lambda reference: load_model(reference, options.tracking), host=options.host)
        server = uvicorn.Server(uvicorn.Config(app, host=options.host, log_level="warning"))
        if options.host not in LOOPBACK:
            print(
                f"NOT ONLY YOU: on {options.host} everybody who reaches this machine can use the page; "
                "no password asked"
            )
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"Open     http://{host}:{door.getsockname()[1]}   (Ctrl-C ends it)", flush=True)
        server.run(sockets=[door])


if __name__ == "__main__":
    main()
