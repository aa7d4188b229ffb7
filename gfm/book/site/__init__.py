"""From executed notebooks and prose to static pages."""

from gfm.book.site.build import Site, build_site

__all__ = ["Site", "build_site"]
