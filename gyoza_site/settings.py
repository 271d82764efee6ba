"""Gyoza's settings, read top to bottom. Values come from the environment through `env`."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static

from gyoza_site import env

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Identity -----------------------------------------------------------------------------------

_release = re.search(
    r"^## (\d+\.\d+\.\d+)", (BASE_DIR / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE
)
if _release is None:
    raise ImproperlyConfigured("CHANGELOG.md has no version heading")
GYOZA_VERSION = _release.group(1)

# --- Web ----------------------------------------------------------------------------------------

DEBUG = env.boolean("GYOZA_DEBUG", False, "Show Django's debug pages. Never in production.")
GYOZA_HOST = env.text("GYOZA_HOST", "127.0.0.1", "Address the web process binds to.")
GYOZA_PORT = env.integer("PORT", 5555, "TCP port the web process binds to.", low=1, high=65535)
GYOZA_URL = env.text(
    "GYOZA_URL", f"http://127.0.0.1:{GYOZA_PORT}", "Base URL under which ops reach this service."
)
GYOZA_HOME = Path(
    env.text("GYOZA_HOME", str(BASE_DIR / ".gyoza"), "Directory for local state of this machine.")
)
SECRET_KEY = env.secret(
    "GYOZA_SECRET_KEY", "Signs sessions and run tokens; the same on every process."
)
if not SECRET_KEY:
    # A per-machine file, made on first use, so that a clone starts without configuration and no
    # well-known key ever signs anything. Processes on several machines must share GYOZA_SECRET_KEY.
    from gyoza_site.secret_key import load_or_create

    SECRET_KEY = load_or_create(GYOZA_HOME / "secret_key")
ALLOWED_HOSTS = env.words(
    "GYOZA_ALLOWED_HOSTS",
    ["127.0.0.1", "localhost", "[::1]"],
    "Host names the service answers to; * for any.",
)
CSRF_TRUSTED_ORIGINS = env.words(
    "GYOZA_TRUSTED_ORIGINS", [], "Origins (scheme://host) that may post admin forms."
)
GYOZA_CORS_ORIGINS = env.origins(
    "GYOZA_CORS_ORIGINS",
    "Origins (scheme://host[:port]) whose pages may call the API from a browser, without cookies; * for any.",
)
GYOZA_BEHIND_TLS = env.boolean(
    "GYOZA_BEHIND_TLS", False, "A TLS proxy stands in front: secure cookies, HSTS, redirects."
)
GYOZA_TRUSTED_PROXIES = env.words(
    "GYOZA_TRUSTED_PROXIES",
    ["127.0.0.1"],
    "Addresses or networks of proxies whose X-Forwarded-For is believed; * for any.",
)
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if GYOZA_BEHIND_TLS else None
SECURE_SSL_REDIRECT = GYOZA_BEHIND_TLS
# Probes come from inside, without TLS, and take a redirect for an answer.
SECURE_REDIRECT_EXEMPT = ["^health$"]
SESSION_ENGINE = "apps.access.sessions"
SESSION_COOKIE_SECURE = GYOZA_BEHIND_TLS
CSRF_COOKIE_SECURE = GYOZA_BEHIND_TLS
SECURE_HSTS_SECONDS = 31_536_000 if GYOZA_BEHIND_TLS else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = GYOZA_BEHIND_TLS
SECURE_HSTS_PRELOAD = GYOZA_BEHIND_TLS

ROOT_URLCONF = "gyoza_site.urls"
ASGI_APPLICATION = "gyoza_site.asgi.application"
APPEND_SLASH = False

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "django_linear_migrations",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_celery_beat",
    "apps.core",
    "apps.access",
    "apps.topics",
    "apps.definitions",
    "apps.storage",
    "apps.runs",
    "apps.pipelines",
    "apps.console",
    "apps.stack",
]

MIDDLEWARE = [
    "apps.core.correlation.CorrelationMiddleware",
    "apps.core.contentpolicy.ContentPolicyMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

# Alpine, of which the admin's theme is made, compiles the expressions in its pages; no other page may do so.
GYOZA_EVALUATING_PAGES = ("/admin/",)

# The admin's login is the console's, too; who asked for no page in particular is led there.
LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "/console/"

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]

LANGUAGE_CODE = "en-us"
FORMAT_MODULE_PATH = "gyoza_site.formats"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"
# Assets are found in the installed packages: a clone needs no collectstatic step.
WHITENOISE_USE_FINDERS = True
DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024 * 1024

# --- Postgres -----------------------------------------------------------------------------------

env.use_embedded(GYOZA_HOME / "urls.json")
DATABASE_URL = env.text(
    "DATABASE_URL",
    f"postgresql://gyoza@127.0.0.1/{'gyoza'}",
    "Postgres, as postgresql://user:password@host:port/name; ?host=/dir for a Unix socket.",
)


def _database(url: str) -> dict[str, object]:
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(
            "DATABASE_URL: expected postgresql://user:password@host:port/name"
        )
    query = dict(pair.split("=", 1) for pair in parts.query.split("&") if "=" in pair)
    options: dict[str, object] = {
        k: unquote(v) for k, v in query.items() if k not in {"host", "port"}
    }
    return {
        "ENGINE": "apps.core.postgres",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": unquote(query.get("host", parts.hostname or "")),
        "PORT": str(query.get("port", parts.port or "")),
        "OPTIONS": options,
        "DISABLE_SERVER_SIDE_CURSORS": False,
    }


GYOZA_WEB_THREADS = env.integer(
    "GYOZA_WEB_THREADS", 8, "Threads that run the sync views of a web process.", low=1, high=200
)
GYOZA_DB_POOL = env.integer(
    "GYOZA_DB_POOL", 8, "Most Postgres connections per process and kind of pool.", low=2, high=200
)
GYOZA_DB_POOL_OPTIONS: dict[str, Any] = {
    "min_size": 0,
    "max_size": GYOZA_DB_POOL,
    # Who waits for so long is told that Postgres is away.
    "timeout": 5,
    "max_idle": 60,
    # A pool that can't connect waits twice as long before each further try and looks at nothing else meanwhile. After
    # this long it gives up, and whoever asks next makes it try at once: so it is back as soon as Postgres is.
    "reconnect_timeout": 2,
}
DATABASES = {"default": _database(DATABASE_URL)}
DATABASES["default"]["OPTIONS"] = {
    # A network that swallows packets answers nothing, and the kernel would try for a quarter of an hour. In less time
    # than it takes for a worker to be lost, the connection fails and another is made. A slow statement is not meant:
    # its host still acknowledges. DATABASE_URL may say otherwise.
    "keepalives_idle": 4,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": 8000,
    **dict(DATABASES["default"]["OPTIONS"]),  # type: ignore[call-overload]
    "pool": GYOZA_DB_POOL_OPTIONS,
    # Statements of core.sql.run_bound are planned once per connection.
    "prepare_threshold": 0,
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# --- Redis and Celery ---------------------------------------------------------------------------

REDIS_URL = env.text(
    "REDIS_URL", "redis://127.0.0.1:6379/0", "Redis or Valkey: broker and wake-ups."
)
# A Unix socket has another scheme in Celery than in the Redis client.
CELERY_BROKER_URL = re.sub(r"^unix://", "redis+socket://", REDIS_URL)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_DEFAULT_QUEUE = "gyoza"
CELERY_TIMEZONE = "UTC"
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# However long Redis is away: a worker goes on with what it holds, and hears again when it is back.
CELERY_BROKER_CONNECTION_MAX_RETRIES = None
# A publish that can't reach Redis must fail soon: the row is there and a sweep will find it.
CELERY_TASK_PUBLISH_RETRY = False
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_timeout": 5,
    "socket_connect_timeout": 2,
}
CELERY_BEAT_SCHEDULER = "gyoza_site.beat:Scheduler"
# Beat answers nobody: it makes this file when it has started, and `manage.py up` waits for it.
GYOZA_BEAT_MARK = GYOZA_HOME / "run" / "beat-is-up"

# --- REST framework -----------------------------------------------------------------------------

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "apps.access.auth.KeyAuthentication",
        "apps.access.auth.StaffSessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["apps.access.auth.HasScope"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "apps.core.api.negotiation.ContentNegotiation",
    "DEFAULT_PARSER_CLASSES": ["apps.core.api.parsers.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": [
        "apps.core.api.renderers.JSONRenderer",
        "rest_framework.renderers.BrowsableAPIRenderer",
    ],
    "EXCEPTION_HANDLER": "apps.core.api.exception_handler.handle",
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "UNAUTHENTICATED_USER": None,
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS: dict[str, object] = {
    "TITLE": "Gyoza",
    "DESCRIPTION": (
        "Register ops, submit runs, follow thousands of them through durable topics. Clients branch on an error's code:"
        " `error_code` below /api/v1, `error.code` everywhere else."
    ),
    "VERSION": GYOZA_VERSION,
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "REDOC_DIST": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": True,
    # Operations are grouped by the first word of their path, behind this.
    "SCHEMA_PATH_PREFIX": "/(?:api/v1/)?",
    "SERVE_PERMISSIONS": [],
    "SERVE_AUTHENTICATION": [],
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "gyoza_site.openapi.add_data_plane",
        "gyoza_site.openapi.add_errors",
        "gyoza_site.openapi.add_summaries",
    ],
    "ENUM_NAME_OVERRIDES": {
        "RunState": "apps.runs.states.RunState",
        "EventType": "apps.runs.states.EventType",
        "InputType": "apps.definitions.api.serializers.INPUT_TYPES",
        "ExecutionStatus": "apps.pipelines.api.serializers.EXECUTION_STATUSES",
        "TriggerState": "apps.pipelines.api.serializers.TRIGGER_STATES",
        "StageStatus": "apps.pipelines.api.serializers.STAGE_STATUSES",
    },
}

# --- Admin theme --------------------------------------------------------------------------------

UNFOLD = {
    "SITE_TITLE": "Gyoza",
    "SITE_HEADER": "Gyoza",
    "SHOW_HISTORY": False,
    "SITE_DROPDOWN": [{"icon": "monitoring", "title": "Console", "link": "/console/"}],
    "STYLES": [
        lambda request: static("core/pieces.css"),
        lambda request: static("core/admin.css"),
    ],
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("core/favicon.svg")}
    ],
}

# --- Logging ------------------------------------------------------------------------------------

GYOZA_LOG_LEVEL = env.text("GYOZA_LOG_LEVEL", "INFO", "Lowest level that is logged.").upper()
GYOZA_LOG_FORMAT = env.text("GYOZA_LOG_FORMAT", "text", "text for people, json for collectors.")
LOGGING_CONFIG = "apps.core.logs.configure"
LOGGING = {"level": GYOZA_LOG_LEVEL, "format": GYOZA_LOG_FORMAT}

# --- Access -------------------------------------------------------------------------------------

GYOZA_API_KEYS = env.secret(
    "TOPICS_API_KEYS",
    "Keys given at start, secret[:scopes[:prefixes]] separated by commas (topics v0 §3.1).",
)
GYOZA_ALLOW_INSECURE_NO_AUTH = env.boolean(
    "TOPICS_ALLOW_INSECURE_NO_AUTH", False, "Allow a non-loopback bind without any key."
)
# Who calls an async view of the data plane; the control plane's is in REST_FRAMEWORK.
GYOZA_IDENTIFY = "apps.access.auth.identify"
# Who a person in the admin is.
GYOZA_IDENTIFY_USER = "apps.access.auth.caller_of_user"
GYOZA_KEY_CACHE_SECONDS = env.seconds(
    "GYOZA_KEY_CACHE_SECONDS", 5, "How long a process trusts a key it has looked up."
)

# --- Topics -------------------------------------------------------------------------------------

GYOZA_MAX_TOPICS = env.integer("TOPICS_MAX_TOPICS", 100_000, "Most topics; 0 = unlimited.", low=0)
GYOZA_MAX_ROUTERS = env.integer("TOPICS_MAX_ROUTERS", 10_000, "Most routers; 0 = unlimited.", low=0)
GYOZA_MAX_BODY_BYTES = env.integer(
    "TOPICS_MAX_BODY_BYTES", 64 * 1024 * 1024, "Largest request body under /v0.", low=1
)
GYOZA_MAX_INFLIGHT = env.integer(
    "GYOZA_MAX_INFLIGHT",
    5_000,
    "Most requests under way in a web process, streams apart, in each plane; 0 = unlimited.",
    low=0,
)
GYOZA_MAX_HELD_BYTES = env.integer(
    "GYOZA_MAX_HELD_BYTES",
    128 * 1024 * 1024,
    "Most bytes of request bodies that a web process holds at a time; what it makes of them takes some times as much.",
    low=1,
)
GYOZA_MAX_UNSENT_BYTES = env.integer(
    "GYOZA_MAX_UNSENT_BYTES",
    256 * 1024 * 1024,
    "Most bytes of long answers that a web process keeps for clients who have not taken them yet.",
    low=1,
)
GYOZA_MAX_INFLIGHT_PER_KEY = env.integer(
    "TOPICS_MAX_INFLIGHT_PER_KEY",
    1_000,
    "Most requests of one key under way in a web process; 0 = unlimited.",
    low=0,
)
GYOZA_MAX_WATCH_SESSIONS = env.integer(
    "TOPICS_MAX_WATCH_SESSIONS", 10_000, "Most watch sessions; 0 = unlimited.", low=0
)
GYOZA_MAX_STREAMS = env.integer(
    "TOPICS_MAX_SSE_CONNECTIONS",
    10_000,
    "Most open streams and sockets of a web process; 0 = unlimited.",
    low=0,
)
GYOZA_MAX_STREAMS_PER_KEY = env.integer(
    "TOPICS_MAX_SSE_CONNECTIONS_PER_KEY",
    1_000,
    "Most open streams and sockets of one key in a web process; 0 = unlimited.",
    low=0,
)
GYOZA_MAX_SOCKET_MESSAGE_BYTES = env.integer(
    "GYOZA_MAX_SOCKET_MESSAGE_BYTES",
    16 * 1024 * 1024,
    "Largest message that a WebSocket may bring; one that is larger closes it.",
    low=1024,
)
GYOZA_STALLED_SECONDS = env.seconds(
    "GYOZA_STALLED_SECONDS",
    60,
    "After how long a client is given up that takes nothing of a stream or socket, or sends nothing of a request.",
)
GYOZA_BODY_BYTES_PER_SECOND = env.integer(
    "GYOZA_BODY_BYTES_PER_SECOND",
    1024,
    "Slowest that a request body may come once GYOZA_STALLED_SECONDS have passed; uploads of objects need only not stall.",
    low=1,
)
GYOZA_MAX_TOTAL_BYTES = env.integer(
    "TOPICS_MAX_TOTAL_BYTES", 0, "Most live bytes over all topics; 0 = unlimited.", low=0
)
GYOZA_SEGMENT_RECORDS = env.integer(
    "GYOZA_SEGMENT_RECORDS",
    16_777_216,
    "Records per segment of the log: disk is given back by the segment, and each costs a read some microseconds.",
    low=1_000,
)
GYOZA_PROBE_AUTH = env.boolean(
    "TOPICS_PROBE_AUTH", False, "Ask a key of the health and readiness probes under /v0."
)

# Most bytes of a request, by the longest prefix that fits its path; a path may be "*" as well (OPTIONS).
GYOZA_BODY_LIMITS = {
    "": 1024 * 1024,  # runs.md §2: inputs and outputs are metadata, not blobs
    "/v0/": GYOZA_MAX_BODY_BYTES,
    "/admin/": 8 * 1024 * 1024,
}

# --- Runs ---------------------------------------------------------------------------------------

GYOZA_PYTHON_OPS = env.words(
    "GYOZA_PYTHON_OPS",
    ["examples.ops.*"],
    "Callables a `python` op may name: package.module:callable or package.module.*",
)
GYOZA_HEARTBEAT_SECONDS = env.seconds(
    "GYOZA_HEARTBEAT_SECONDS", 2, "How often a worker says it is alive.", low=0.1
)
GYOZA_LOST_SECONDS = env.seconds(
    "GYOZA_LOST_SECONDS", 10, "Silence after which a worker is lost.", low=0.5
)
GYOZA_STARVATION_SECONDS = env.seconds(
    "GYOZA_STARVATION_SECONDS", 60, "Wait after which a big run holds back lower ones."
)
GYOZA_CANCEL_GRACE_SECONDS = env.seconds(
    "GYOZA_CANCEL_GRACE_SECONDS", 10, "Time between SIGTERM and SIGKILL."
)
GYOZA_DRAIN_SECONDS = env.seconds(
    "GYOZA_DRAIN_SECONDS", 10, "How long a stopping worker lets running ops go on."
)
GYOZA_MAX_LOSSES = 3  # runs.md §1: lost workers in a row before the run fails
GYOZA_WORKER_NAME = env.text(
    "GYOZA_WORKER_NAME", "", "Name of this worker; by default host name and a slot number."
)
GYOZA_WORKER_TAGS = env.words("GYOZA_WORKER_TAGS", [], "Tags this worker carries.")
GYOZA_WORKER_SLOTS = env.integer(
    "GYOZA_WORKER_SLOTS", 16, "Most runs one worker holds at a time.", low=1, high=1000
)
GYOZA_WORKER_CPU = env.integer("GYOZA_WORKER_CPU", 0, "CPUs offered; 0 = all.", low=0)
GYOZA_WORKER_RAM_MB = env.integer("GYOZA_WORKER_RAM_MB", 0, "Memory offered; 0 = all.", low=0)
GYOZA_WORKER_GPUS = env.words("GYOZA_WORKER_GPUS", [], "GPUs offered, as id:vram_mb.")
GYOZA_EXECUTORS = {
    "process": {"BACKEND": "apps.runs.executors.process.ProcessExecutor", "OPTIONS": {}},
    "python": {
        "BACKEND": "apps.runs.executors.python.PythonExecutor",
        "OPTIONS": {
            "base_dir": str(BASE_DIR),
            # Beside what users may name, the senders of our own adapters.
            "allowed": [*GYOZA_PYTHON_OPS, "apps.pipelines.adapters.outbound:perform"],
            "max_children": GYOZA_WORKER_SLOTS,
        },
    },
}

# --- Storage ------------------------------------------------------------------------------------

GYOZA_STORAGE_PATH = Path(
    env.text(
        "GYOZA_STORAGE_PATH",
        str(GYOZA_HOME / "storage"),
        "Directory of the objects of executions, shared by all processes.",
    )
)
# Content that is on its way. On the disk of the objects it is moved when it is complete, not copied.
GYOZA_STORAGE_INCOMING = GYOZA_STORAGE_PATH / "incoming"
GYOZA_STORAGE_MAX_OBJECT_BYTES = env.integer(
    "GYOZA_STORAGE_MAX_OBJECT_BYTES", 1024**3, "Most bytes of one object.", low=1
)
GYOZA_STORAGE_QUOTA_BYTES = env.integer(
    "GYOZA_STORAGE_QUOTA_BYTES",
    0,
    "Most bytes that the objects of one execution have together; 0 = unlimited.",
    low=0,
)
GYOZA_STORAGE_QUOTA_OBJECTS = env.integer(
    "GYOZA_STORAGE_QUOTA_OBJECTS", 1_000_000, "Most objects of one execution; 0 = unlimited.", low=0
)
GYOZA_STORAGE_EVENT_DAYS = env.integer(
    "GYOZA_STORAGE_EVENT_DAYS",
    30,
    "For how many days storage events are kept; 0 = for ever.",
    low=0,
)
GYOZA_STORAGE_KEEP_DAYS = env.integer(
    "GYOZA_STORAGE_KEEP_DAYS",
    0,
    "For how many days after its end the objects of an execution are kept; 0 = for ever.",
    low=0,
)
# django-eventstream: who may hear what, and where it is read. Nothing is sent through it (ADR 0055): what it would send
# by Redis goes by `core.sse.wakeups`, so there is no EVENTSTREAM_REDIS, and it is no app, for its tables stay unmade.
EVENTSTREAM_CHANNELMANAGER_CLASS = "apps.storage.eventstream.channels.ExecutionChannels"
EVENTSTREAM_STORAGE_CLASS = "apps.storage.eventstream.log.EventLog"
GYOZA_S3_BUCKET = env.text(
    "GYOZA_S3_BUCKET",
    "",
    "Bucket for the objects, instead of the directory; the key to it is found as by all AWS clients (AWS_ACCESS_KEY_ID, …).",
)
GYOZA_S3_ENDPOINT = env.text("GYOZA_S3_ENDPOINT", "", "URL of an S3 that is not Amazon's.")
GYOZA_S3_REGION = env.text("GYOZA_S3_REGION", "", "Region of the bucket.")
# A client waits for its answer meanwhile, and a thread with it: what botocore does by itself is five times a minute.
GYOZA_S3_CONNECT_SECONDS = env.seconds(
    "GYOZA_S3_CONNECT_SECONDS", 3, "How long a connection to the bucket may take.", low=0.1, high=60
)
GYOZA_S3_READ_SECONDS = env.seconds(
    "GYOZA_S3_READ_SECONDS", 15, "How long the bucket may be silent.", low=0.1, high=300
)
GYOZA_S3_ATTEMPTS = env.integer(
    "GYOZA_S3_ATTEMPTS", 3, "How often a request to the bucket is sent at most.", low=1, high=10
)
STORAGES: dict[str, dict[str, Any]] = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    "gyoza": {
        "BACKEND": "apps.storage.backends.filesystem.DurableFiles",
        "OPTIONS": {"location": GYOZA_STORAGE_PATH / "objects"},
    },
}
if GYOZA_S3_BUCKET:
    STORAGES["gyoza"] = {
        "BACKEND": "apps.storage.backends.s3.Bucket",
        "OPTIONS": {
            "bucket_name": GYOZA_S3_BUCKET,
            "endpoint_url": GYOZA_S3_ENDPOINT or None,
            "region_name": GYOZA_S3_REGION or None,
        },
    }

# --- Pipelines ----------------------------------------------------------------------------------

GYOZA_HTTP_HOSTS = env.words(
    "GYOZA_HTTP_HOSTS",
    [],
    "Hosts that `http` steps may reach: name, *.name or name:port. None without it.",
)
GYOZA_HTTP_ALLOWS_PRIVATE = env.boolean(
    "GYOZA_HTTP_ALLOWS_PRIVATE",
    False,
    "Whether such a host may be at a private, loopback or link-local address.",
)
GYOZA_ADAPTERS = [
    "apps.pipelines.adapters.approve.Approve",
    "apps.pipelines.adapters.http.Http",
    "apps.pipelines.adapters.publish.Publish",
    "apps.pipelines.adapters.sleep.Sleep",
    "apps.pipelines.adapters.storageread.StorageRead",
    "apps.pipelines.adapters.storagewrite.StorageWrite",
    "apps.pipelines.adapters.subpipeline.SubPipeline",
    "apps.pipelines.adapters.transform.Transform",
]
GYOZA_HOSTNAME = socket.gethostname()

# --- Reference ----------------------------------------------------------------------------------

# For docs/reference/settings.md: every variable that was read above.
GYOZA_ENVIRONMENT = env.REGISTRY
