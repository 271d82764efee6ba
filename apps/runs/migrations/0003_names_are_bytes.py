from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("runs", "0002_worker_instance"),
    ]

    operations = [
        migrations.AlterField(
            model_name="run",
            name="op_definition",
            field=models.TextField(blank=True, db_collation="C", null=True),
        ),
        migrations.AlterField(
            model_name="run",
            name="topic",
            field=models.TextField(
                blank=True, db_collation="C", default="", help_text="event_delivery.topic"
            ),
        ),
    ]
