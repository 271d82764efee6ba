from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('storage', '0002_reads'),
    ]

    operations = [
        migrations.AddField(
            model_name='eventclock',
            name='count',
            field=models.BigIntegerField(db_default=0, help_text='Objects of all spaces.'),
        ),
        migrations.AddField(
            model_name='eventclock',
            name='bytes',
            field=models.BigIntegerField(db_default=0, help_text='Their size.'),
        ),
        migrations.RunSQL(
            "UPDATE storage_eventclock SET (count, bytes) ="
            " (SELECT coalesce(sum(count), 0), coalesce(sum(bytes), 0) FROM storage_space)",
            migrations.RunSQL.noop,
        ),
    ]
