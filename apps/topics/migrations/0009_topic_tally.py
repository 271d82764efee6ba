from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('topics', '0008_paused_routers'),
    ]

    operations = [
        migrations.CreateModel(
            name='TopicTally',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('change', models.BigIntegerField(help_text='Topics created, less topics deleted.')),
            ],
        ),
        migrations.RunSQL(
            """
            CREATE FUNCTION topics_note_created() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              INSERT INTO topics_topictally (change) SELECT count(*) FROM created HAVING count(*) > 0;
              RETURN NULL;
            END $$;
            CREATE FUNCTION topics_note_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
              INSERT INTO topics_topictally (change) SELECT -count(*) FROM deleted HAVING count(*) > 0;
              RETURN NULL;
            END $$;
            CREATE TRIGGER topics_created AFTER INSERT ON topics_topic
              REFERENCING NEW TABLE AS created FOR EACH STATEMENT EXECUTE FUNCTION topics_note_created();
            CREATE TRIGGER topics_deleted AFTER DELETE ON topics_topic
              REFERENCING OLD TABLE AS deleted FOR EACH STATEMENT EXECUTE FUNCTION topics_note_deleted();
            -- The triggers' creation has waited for whoever was creating topics, and holds off those who want to.
            INSERT INTO topics_topictally (change) SELECT count(*) FROM topics_topic HAVING count(*) > 0;
            """,
            """
            DROP TRIGGER topics_created ON topics_topic;
            DROP TRIGGER topics_deleted ON topics_topic;
            DROP FUNCTION topics_note_created();
            DROP FUNCTION topics_note_deleted();
            """,
        ),
    ]
