import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("runs", "0005_sweep_steady_since"),
    ]

    operations = [
        # Workers are few: their index is made anew in no time.
        migrations.RemoveIndex(
            model_name="worker",
            name="worker_alive",
        ),
        migrations.AddIndex(
            model_name="worker",
            index=models.Index(
                condition=models.Q(("state", "LOST"), _negated=True),
                fields=["id"],
                name="worker_alive",
            ),
        ),
        migrations.AlterField(
            model_name="attempt",
            name="run",
            field=models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="past_attempts",
                to="runs.run",
            ),
        ),
        migrations.AlterField(
            model_name="run",
            name="worker",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="runs",
                to="runs.worker",
            ),
        ),
    ]
