from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("runs", "0006_moves_write_fewer_indexes"),
    ]

    operations = [
        migrations.AddField(
            model_name="run",
            name="stage",
            field=models.TextField(
                blank=True,
                help_text="What its files become objects of; empty = they are not kept.",
                null=True,
            ),
        ),
    ]
