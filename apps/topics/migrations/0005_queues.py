import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('topics', '0004_watch_sessions'),
    ]

    operations = [
        migrations.CreateModel(
            name='Queue',
            fields=[
                ('topic', models.OneToOneField(db_constraint=False, on_delete=django.db.models.deletion.DO_NOTHING, primary_key=True, related_name='queue', serialize=False, to='topics.topic')),
                ('claimed', models.BigIntegerField(db_default=0, help_text='Newest seq that was ever delivered; fresh jobs are those after it.')),
                ('last_lease', models.BigIntegerField(db_default=0, help_text='Newest lease number; only rises.')),
                ('leased', models.BigIntegerField(db_default=0, help_text='Rows that are LEASED.')),
                ('delayed', models.BigIntegerField(db_default=0, help_text='Rows that are DELAYED.')),
                ('dead_lettered', models.BigIntegerField(db_default=0, help_text='Jobs moved away (§18.7).')),
                ('swept_due', models.BigIntegerField(db_default=0, help_text='No leased, delayed or gone job is due at this time or before.')),
                ('reaped', models.BigIntegerField(db_default=1, help_text='Jobs below this seq whose record is gone have been dealt with.')),
                ('window_until', models.BigIntegerField(db_default=0, help_text='When the open coalescing window ends, in ms; 0 when none is open.')),
                ('is_paused', models.BooleanField(db_default=False, help_text='Claims get nothing.')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('delayed__gte', 0), ('leased__gte', 0)), name='queue_counts_jobs')],
            },
        ),
        migrations.CreateModel(
            name='WaitingClaim',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('node', models.TextField(db_collation='C')),
                ('most', models.IntegerField()),
                ('lease_ms', models.BigIntegerField()),
                ('is_pushed', models.BooleanField()),
                ('filed_ts', models.BigIntegerField(help_text='In ms.')),
                ('seqs', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), null=True, size=None)),
                ('leases', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), null=True, size=None)),
                ('topic', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='topics.topic')),
            ],
        ),
        migrations.CreateModel(
            name='Job',
            fields=[
                ('pk', models.CompositePrimaryKey('topic_id', 'seq', blank=True, editable=False, primary_key=True, serialize=False)),
                ('seq', models.BigIntegerField()),
                ('due', models.BigIntegerField(help_text="From when on, in ms, it may be claimed: a lease's deadline + 1, a delay's end, else 0.")),
                ('lease', models.BigIntegerField(null=True)),
                ('deliveries', models.IntegerField(help_text='How often it was delivered.')),
                ('state', models.SmallIntegerField(choices=[(0, 'Returned'), (1, 'Leased'), (2, 'Delayed'), (3, 'Gone')])),
                ('is_pushed', models.BooleanField(db_default=False, help_text='Leased by a /work stream, which wants to know when it ends.')),
                ('node', models.TextField(db_collation='C', null=True)),
                ('topic', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='topics.topic')),
            ],
            options={
                'indexes': [models.Index(condition=models.Q(('state', 0)), fields=['topic', 'seq'], name='job_returned'), models.Index(condition=models.Q(('state', 0), _negated=True), fields=['topic', 'due'], name='job_by_due')],
                'constraints': [models.CheckConstraint(condition=models.Q(models.Q(('lease__isnull', False), ('node__isnull', False), ('state__in', [1, 3])), models.Q(models.Q(('state__in', [1, 3]), _negated=True), ('is_pushed', False), ('lease__isnull', True), ('node__isnull', True)), _connector='OR'), name='job_lease_iff_held'), models.CheckConstraint(condition=models.Q(models.Q(('due', 0), ('state', 0)), models.Q(models.Q(('state', 0), _negated=True), ('due__gt', 0)), _connector='OR'), name='job_returned_iff_due_at_once'), models.CheckConstraint(condition=models.Q(('deliveries__gt', 0)), name='job_was_delivered')],
            },
        ),
        # A queue's row changes with every claim and ack: room on its page keeps the change off the index (HOT).
        migrations.RunSQL(
            "ALTER TABLE topics_queue SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02,"
            " autovacuum_vacuum_cost_delay = 0)",
            migrations.RunSQL.noop,
        ),
        # Rows come and go with every delivery: vacuum by number and at full speed.
        migrations.RunSQL(
            "ALTER TABLE topics_job SET (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,"
            " autovacuum_vacuum_cost_delay = 0, autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 50000)",
            migrations.RunSQL.noop,
        ),
        # Who waits in a window is gone with a crash, as its request is.
        migrations.RunSQL("ALTER TABLE topics_waitingclaim SET UNLOGGED", migrations.RunSQL.noop),
        # One row for each queue, in a table that Postgres empties when it recovers from a crash: as long as a queue's
        # row is there, no lease number that was handed out without waiting for the disk has been lost.
        migrations.RunSQL(
            "CREATE UNLOGGED TABLE topics_queue_intact (topic_id bigint PRIMARY KEY)",
            "DROP TABLE topics_queue_intact",
        ),
    ]
