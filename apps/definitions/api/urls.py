from __future__ import annotations

from django.urls import path

from apps.definitions.api import views

app_name = "definitions"

urlpatterns = [
    path("definitions", views.DefinitionListView.as_view(), name="definition-list"),
    path("definitions/<str:name>", views.DefinitionDetailView.as_view(), name="definition-detail"),
]
