from django.db import migrations, models

class Migration(migrations.Migration):

    dependencies = [
        ('topics', '0007_queue_topic'),
    ]

    operations = [
        migrations.AddField(
            model_name='router',
            name='is_paused',
            field=models.BooleanField(db_default=False, help_text='An operator holds it; what it has not copied waits.'),
        ),
        migrations.AlterField(
            model_name='router',
            name='filter_text',
            field=models.TextField(db_collation='C', null=True),
        ),
        # Nobody waits for a router that is paused.
        migrations.RunSQL(
            "CREATE OR REPLACE VIEW topics_behind AS"
            " SELECT r.id AS router_id, r.source_id, r.dest_id, s.head - r.position AS lag"
            " FROM topics_router r JOIN topics_topic s ON s.id = r.source_id"
            " WHERE r.position < s.head AND NOT r.is_paused",
            "CREATE OR REPLACE VIEW topics_behind AS"
            " SELECT r.id AS router_id, r.source_id, r.dest_id, s.head - r.position AS lag"
            " FROM topics_router r JOIN topics_topic s ON s.id = r.source_id"
            " WHERE r.position < s.head",
        ),
        # A router's row changes with every pass: room on its page keeps the change off the indexes (HOT).
        migrations.RunSQL(
            "ALTER TABLE topics_router SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02,"
            " autovacuum_vacuum_cost_delay = 0)",
            migrations.RunSQL.noop,
        ),
    ]
