from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("topics", "0009_topic_tally"),
    ]

    operations = [
        migrations.AddField(
            model_name="router",
            name="lost_hops",
            field=models.IntegerField(
                db_default=0,
                help_text="Routers that the newest loss it told of has come through.",
            ),
        ),
    ]
