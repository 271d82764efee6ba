import apps.core.clock
import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('pipelines', '0002_triggers'),
    ]

    operations = [
        migrations.CreateModel(
            name='Schedule',
            fields=[
                ('pipeline', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='schedule', serialize=False, to='pipelines.pipeline')),
                ('cron', models.TextField(help_text='options.schedule')),
                ('timezone', models.TextField(help_text='options.timezone')),
                ('is_paused', models.BooleanField(default=False)),
                ('next_at', models.DateTimeField(blank=True, help_text='The next due time; empty while paused.', null=True)),
                ('last_at', models.DateTimeField(blank=True, help_text='The newest due time that was started.', null=True)),
                ('last_execution_id', models.UUIDField(blank=True, null=True)),
                ('started', models.PositiveBigIntegerField(default=0)),
                ('created_by', models.TextField(blank=True, default='')),
                ('prefixes', django.contrib.postgres.fields.ArrayField(base_field=models.TextField(), blank=True, default=list, help_text="Names its steps may use, as its maker's key.", size=None)),
                ('created_at', models.DateTimeField(default=apps.core.clock.now)),
            ],
        ),
        migrations.AddField(
            model_name='execution',
            name='scheduled_at',
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddConstraint(
            model_name='execution',
            constraint=models.UniqueConstraint(condition=models.Q(('scheduled_at__isnull', False)), fields=('pipeline_id', 'scheduled_at'), name='execution_once_per_due_time'),
        ),
        migrations.AddIndex(
            model_name='schedule',
            index=models.Index(models.F('next_at'), condition=models.Q(('next_at__isnull', False)), name='schedule_due'),
        ),
        migrations.AddConstraint(
            model_name='schedule',
            constraint=models.CheckConstraint(condition=models.Q(models.Q(('is_paused', True), ('next_at__isnull', True)), models.Q(('is_paused', False), ('next_at__isnull', False)), _connector='OR'), name='schedule_due_iff_not_paused'),
        ),
    ]
