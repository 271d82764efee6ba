from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('pipelines', '0006_trigger_stumbles'),
    ]

    operations = [
        migrations.AddConstraint(
            model_name='execution',
            constraint=models.UniqueConstraint(condition=models.Q(('tag__isnull', False)), fields=('tag',), name='execution_once_per_tag'),
        ),
        migrations.AlterField(
            model_name='execution',
            name='tag',
            field=models.TextField(blank=True, null=True),
        ),
    ]
