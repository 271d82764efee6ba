"""`docs/reference/openapi.yaml`, as `manage.py spectacular` writes it."""

from __future__ import annotations

from drf_spectacular.renderers import OpenApiYamlRenderer
from drf_spectacular.settings import spectacular_settings


def page() -> str:
    """Return the OpenAPI document of every endpoint."""
    schema = spectacular_settings.DEFAULT_GENERATOR_CLASS().get_schema(request=None, public=True)
    written: bytes = OpenApiYamlRenderer().render(schema, renderer_context={})
    return written.decode()
