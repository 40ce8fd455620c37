"""What commands import sooner or later, imported once; `processes` forks them from a process that holds it."""

import gc
import importlib
import pkgutil

import matplotlib as mpl
from PIL import Image

import eyegender
import hydra_plugins

gc.disable()
Image.init()
mpl.use("agg")
for package in (eyegender, hydra_plugins):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)

# Collecting in a child would write to every page that it shares with its parent.
gc.enable()
gc.collect()
gc.freeze()
