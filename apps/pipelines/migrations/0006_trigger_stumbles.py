from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('pipelines', '0005_endings'),
    ]

    operations = [
        migrations.AddField(
            model_name='trigger',
            name='stumbles',
            field=models.PositiveSmallIntegerField(db_default=0, default=0, help_text='Turns that have failed where the cursor is.'),
        ),
    ]
