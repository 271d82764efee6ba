from django.db import migrations, models
from django.utils import timezone


class Migration(migrations.Migration):

    dependencies = [
        ('runs', '0004_runs_by_who_may_see_them'),
    ]

    operations = [
        migrations.RemoveField(
            model_name='sweep',
            name='previous_at',
        ),
        migrations.AddField(
            model_name='sweep',
            name='steady_since',
            field=models.DateTimeField(default=timezone.now),
            preserve_default=False,
        ),
    ]
