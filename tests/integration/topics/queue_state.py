"""What a queue's rows must agree on, whatever was done to it."""

from __future__ import annotations

from apps.topics.models import Event, Job, Queue, Topic
from apps.topics.states import JobState


def assert_sound(name: str) -> None:
    """Assert that counters are those of rows, and that no job is lost: each live one is claimable, held or delayed."""
    topic = Topic.objects.get(name=name)
    live = list(
        Event.objects.filter(
            topic_id=topic.pk, seq__gte=topic.earliest, seq__lte=topic.head
        ).values_list("seq", "size")
    )
    assert (topic.count, topic.bytes) == (len(live), sum(size for _, size in live))
    assert topic.earliest == min((seq for seq, _ in live), default=topic.head + 1)
    queue = Queue.objects.filter(topic=topic).first()
    if queue is None:
        assert not Job.objects.filter(topic=topic).exists()
        return
    jobs = {job.seq: job for job in Job.objects.filter(topic=topic)}
    states = [job.state for job in jobs.values()]
    # What retention took and time ended is noticed by the next pass: until then it counts as it did.
    assert queue.leased == states.count(JobState.LEASED)
    assert queue.delayed == states.count(JobState.DELAYED)
    assert all(seq <= queue.claimed for seq in jobs)
    assert all(job.lease is None or job.lease <= queue.last_lease for job in jobs.values())
    for seq, _ in live:
        assert (seq in jobs) == (seq <= queue.claimed), f"job {seq} is nobody's"
    for job in jobs.values():
        # Else no pass would ever look at it again.
        assert job.state == JobState.RETURNED or job.due > queue.swept_due
