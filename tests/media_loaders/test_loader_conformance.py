"""The shipped loaders pass the suite that others get."""

from __future__ import annotations

from hookline.testkit.media_loaders import MediaLoaderSuite


class TestWeb(MediaLoaderSuite):
    name = "web"
    bad_refs = ("http://127.0.0.1:9/", "https://", "http://user:pw@example.org/")


class TestInline(MediaLoaderSuite):
    name = "inline"
    bad_refs = ("data:nothing", "data:;base64,*")
    good_refs = {"data:;base64,cGljdHVyZQ==": b"picture", "data:,x%20yz%01": b"x yz\x01"}


class TestFiles(MediaLoaderSuite):
    name = "files"
    bad_refs = ("file:///etc/passwd", "file://host/x")
