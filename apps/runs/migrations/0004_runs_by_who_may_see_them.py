from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("runs", "0003_names_are_bytes"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(
                models.F("op_definition"),
                models.F("state"),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("op_definition__isnull", False)),
                name="run_by_op_state",
            ),
        ),
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(
                models.F("topic"),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(
                    ("op_definition__isnull", True), models.Q(("topic", ""), _negated=True)
                ),
                name="run_by_ad_hoc_topic",
            ),
        ),
        AddIndexConcurrently(
            model_name="run",
            index=models.Index(
                models.F("created_by"),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("created_by", "anonymous"), _negated=True),
                name="run_by_owner",
            ),
        ),
    ]
