from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('pipelines', '0003_schedules'),
    ]

    operations = [
        migrations.CreateModel(
            name='Autostart',
            fields=[],
            options={'verbose_name': 'trigger', 'proxy': True, 'indexes': [], 'constraints': []},
            bases=('pipelines.pipeline',),
        ),
    ]
