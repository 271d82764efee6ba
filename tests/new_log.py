"""The log as migrations leave it: one segment without end. A sweep opens more, and plans of other tests would show them."""

from __future__ import annotations

from django.db import connection

from apps.topics.disk import segments


def renew_log() -> None:
    with connection.cursor() as cursor:
        for segment in segments.all_segments():
            cursor.execute(f'DROP TABLE "{segment.name}"')
        cursor.execute(
            "CREATE TABLE topics_event_0 PARTITION OF topics_event (PRIMARY KEY (topic_id, seq))"
            " FOR VALUES FROM (MINVALUE) TO (MAXVALUE)"
        )
        cursor.execute("ALTER SEQUENCE topics_event_id_seq RESTART")
        cursor.execute("DELETE FROM topics_horizon")
