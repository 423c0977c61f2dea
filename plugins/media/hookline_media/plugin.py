"""Table of contents of hookline-media: what it offers. Imports neither torch nor any implementation."""

from __future__ import annotations

from hookline.interfaces.multimodal import MediaLoaderSpec
from hookline.interfaces.spec import PluginInfo
from hookline.plugins.hookspecs import hookimpl

PLUGIN = PluginInfo(
    name="media",
    provides=("media_loaders",),
    config_model="hookline_media.options:MediaOptions",
    summary="media from web addresses, data: URIs and files",
)


@hookimpl
def hookline_media_loaders() -> list[MediaLoaderSpec]:
    return [
        MediaLoaderSpec(
            name="web",
            target="hookline_media.http:HttpLoader",
            schemes=("http", "https"),
            summary="web addresses, public ones unless private ones are allowed",
        ),
        MediaLoaderSpec(
            name="inline",
            target="hookline_media.data_uri:DataLoader",
            schemes=("data",),
            summary="data: URIs, base64 or percent-encoded",
        ),
        MediaLoaderSpec(
            name="files",
            target="hookline_media.files:FileLoader",
            schemes=("file",),
            summary="file: URLs below the directories of multimodal.allowed_media_paths",
        ),
    ]
