"""How many topics there are, kept without a row that everybody who creates one would have to wait for."""

from __future__ import annotations

from django.db import models


class TopicTally(models.Model):
    """A change of the number of topics; their sum is that number.

    Written by triggers of `topics_topic`, in the transaction that creates or deletes, so that it is as true as the
    topics themselves. `count_topics.sql` reads them, and makes one of many.
    """

    change = models.BigIntegerField(help_text="Topics created, less topics deleted.")

    def __str__(self) -> str:
        return f"{self.change:+d}"
