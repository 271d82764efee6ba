import django.contrib.postgres.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('pipelines', '0004_autostart'),
    ]

    operations = [
        migrations.CreateModel(
            name='Ending',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('pipeline_id', models.TextField(db_collation='C')),
                ('source_id', models.TextField(help_text='The trigger that has started them.', null=True)),
                ('execution_ids', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), size=None)),
                ('parent_ids', django.contrib.postgres.fields.ArrayField(base_field=models.UUIDField(), help_text='Executions that wait for them.', size=None)),
            ],
            options={
                'indexes': [models.Index(models.F('source_id'), condition=models.Q(('source_id__isnull', False)), name='ending_by_source')],
            },
        ),
        migrations.AddField(
            model_name='execution',
            name='counted_attempts',
            field=models.PositiveIntegerField(db_default=1, default=1, help_text='Attempts its trigger knows of.'),
        ),
        migrations.RunSQL(
            """
            UPDATE pipelines_execution SET counted_attempts = attempt WHERE attempt > 1 AND is_settled AND status <> 'running';
            INSERT INTO pipelines_ending (pipeline_id, source_id, execution_ids, parent_ids)
            SELECT pipeline_id, source_id, array_agg(id),
                   coalesce(array_agg(parent_id) FILTER (WHERE parent_id IS NOT NULL AND parent_stage IS NOT NULL), '{}')
            FROM pipelines_execution WHERE NOT is_settled GROUP BY pipeline_id, source_id;
            """,
            migrations.RunSQL.noop,
        ),
        migrations.RemoveIndex(
            model_name='execution',
            name='execution_unsettled',
        ),
        migrations.RemoveField(
            model_name='execution',
            name='is_settled',
        ),
    ]
