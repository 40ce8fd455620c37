"""Backbones as lists of stages, heads, weights and the LightningModule around them.

A backbone is added with one file here (a `Backbone` subclass) and one in `conf/model/`.
"""
