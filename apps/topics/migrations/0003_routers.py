import django.db.models.deletion
import django.db.models.functions.datetime
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('topics', '0002_deleted_topic'),
    ]

    operations = [
        migrations.RemoveField(
            model_name='event',
            name='hops',
        ),
        migrations.AddField(
            model_name='event',
            name='trail',
            field=models.TextField(help_text='Ids of the topics a copy came through, oldest first (§16.7, ★29).', null=True),
        ),
        migrations.AddField(
            model_name='topic',
            name='has_gaps',
            field=models.BooleanField(db_default=False, help_text='Seqs between live records were lost: see `Gap`.'),
        ),
        migrations.AddField(
            model_name='topic',
            name='is_fed',
            field=models.BooleanField(db_default=False, help_text='A router copies into this topic: reads wait for its copies.'),
        ),
        migrations.CreateModel(
            name='Gap',
            fields=[
                ('pk', models.CompositePrimaryKey('topic_id', 'last_seq', blank=True, editable=False, primary_key=True, serialize=False)),
                ('first_seq', models.BigIntegerField()),
                ('last_seq', models.BigIntegerField()),
                ('topic', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.DO_NOTHING, related_name='gaps', to='topics.topic')),
            ],
            options={
                'constraints': [models.CheckConstraint(condition=models.Q(('first_seq__lte', models.F('last_seq'))), name='gap_is_a_range')],
            },
        ),
        migrations.CreateModel(
            name='Router',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.TextField(db_collation='C')),
                ('preserve_node', models.BooleanField(default=True)),
                ('preserve_tag', models.BooleanField(default=True)),
                ('filter_text', models.TextField(null=True)),
                ('filter_is_prefix', models.BooleanField(default=False)),
                ('allow_cycle', models.BooleanField(default=False)),
                ('guarantee', models.TextField(choices=[('at_least_once', 'At least once'), ('exactly_once', 'Exactly once')], default='at_least_once')),
                ('position', models.BigIntegerField(help_text='Newest seq of the source that is dealt with. Moves in the transaction that copies.')),
                ('forwarded_total', models.BigIntegerField(default=0, help_text='Copies made, and records that the source lost before (§16.2).')),
                ('created_at', models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ('dest', models.ForeignKey(on_delete=django.db.models.deletion.DO_NOTHING, related_name='routers_into', to='topics.topic')),
                ('source', models.ForeignKey(on_delete=django.db.models.deletion.DO_NOTHING, related_name='routers_from', to='topics.topic')),
            ],
            options={
                'constraints': [models.UniqueConstraint(fields=('name',), name='router_once_per_name'), models.CheckConstraint(condition=models.Q(('guarantee__in', ['at_least_once', 'exactly_once'])), name='router_guarantee_known'), models.CheckConstraint(condition=models.Q(('source', models.F('dest')), _negated=True), name='router_goes_elsewhere')],
            },
        ),
        # Routers whose source has records that they have not dealt with: what "behind" means, for reads of a fed topic,
        # the sweep and the metrics.
        migrations.RunSQL(
            "CREATE VIEW topics_behind AS"
            " SELECT r.id AS router_id, r.source_id, r.dest_id, s.head - r.position AS lag"
            " FROM topics_router r JOIN topics_topic s ON s.id = r.source_id"
            " WHERE r.position < s.head",
            "DROP VIEW topics_behind",
        ),
        # The two questions of every read, for the few topics that are fed or have gaps: `is_fed AND …`, `CASE WHEN
        # has_gaps …`. In plpgsql because SQL functions become part of the reader's plan, where they cost the others too.
        migrations.RunSQL(
            "CREATE FUNCTION topics_is_owed(topic bigint) RETURNS boolean LANGUAGE plpgsql STABLE AS $$"
            " BEGIN RETURN EXISTS (SELECT FROM topics_behind b WHERE b.dest_id = topic); END $$",
            "DROP FUNCTION topics_is_owed",
        ),
        # What gaps mean to a reader whose next seq is start + 1: `floor`, the end of the last gap below the oldest live
        # record; `ends`, the end of the gap it stands in; `begins`, the first seq of the gap ahead.
        migrations.RunSQL(
            "CREATE TYPE topics_gaps AS (floor bigint, ends bigint, begins bigint);"
            "CREATE FUNCTION topics_gaps_at(topic bigint, earliest bigint, start bigint)"
            " RETURNS topics_gaps LANGUAGE plpgsql STABLE AS $$"
            " DECLARE found topics_gaps; BEGIN"
            " SELECT max(g.last_seq) INTO found.floor FROM topics_gap g"
            "  WHERE g.topic_id = topic AND g.last_seq < earliest;"
            " SELECT max(g.last_seq) FILTER (WHERE g.first_seq <= start + 1),"
            "  min(g.first_seq) FILTER (WHERE g.first_seq > start + 1) INTO found.ends, found.begins"
            "  FROM (SELECT first_seq, last_seq FROM topics_gap"
            "        WHERE topic_id = topic AND last_seq > start ORDER BY last_seq LIMIT 2) AS g;"
            " RETURN found; END $$",
            "DROP FUNCTION topics_gaps_at; DROP TYPE topics_gaps",
        ),
    ]
