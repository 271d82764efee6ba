"""`docs/reference/openapi.yaml`, as `manage.py spectacular` writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from drf_spectacular.renderers import OpenApiYamlRenderer
from drf_spectacular.settings import spectacular_settings

if TYPE_CHECKING:
    from rest_framework.renderers import BaseRenderer

JSON = Any


def document() -> JSON:
    """Return the OpenAPI document of every endpoint."""
    return spectacular_settings.DEFAULT_GENERATOR_CLASS().get_schema(request=None, public=True)


def page() -> str:
    """Return the document as YAML."""
    renderer: BaseRenderer = OpenApiYamlRenderer()
    written = renderer.render(document(), renderer_context={})
    return written if isinstance(written, str) else written.decode()
