//! The keys of a service.

use super::{COUNT, Field, Object, Printed, Shape, WHOLE, f, given, object, printed};

pub(super) static SERVICE: Shape = Shape::Object(&SERVICE_OBJECT);

pub(super) static SERVICE_OBJECT: Object = object(
    "a service",
    &[
        f("annotations", Shape::Pairs(false)),
        given("attach", Shape::Bool),
        f("blkio_config", Shape::Object(&BLKIO)),
        f("build", Shape::Short(&BUILD)),
        f("cap_add", Shape::Set),
        f("cap_drop", Shape::Set),
        f("cgroup", Shape::Word(&["host", "private"])),
        f("cgroup_parent", Shape::Text),
        printed("command", Shape::Command, Printed::OrNull),
        f("configs", FILE_MOUNTS),
        f("container_name", Shape::Text),
        f("cpu_count", COUNT),
        f("cpu_percent", Shape::Whole(0, 100)),
        f("cpu_period", Shape::Int),
        f("cpu_quota", Shape::Int),
        f("cpu_rt_period", Shape::Int),
        f("cpu_rt_runtime", Shape::Int),
        f("cpu_shares", Shape::Int),
        f("cpus", Shape::Float),
        f("cpuset", Shape::Text),
        f("credential_spec", Shape::Object(&CREDENTIAL_SPEC)),
        f("depends_on", Shape::NamesOr(&DEPENDENCY)),
        f("deploy", Shape::OrNull(&DEPLOY)),
        f("develop", Shape::OrNull(&DEVELOP)),
        f("device_cgroup_rules", Shape::Set),
        f("devices", Shape::List(&DEVICE)),
        f("dns", Shape::TextOrSet),
        f("dns_opt", Shape::Set),
        f("dns_search", Shape::TextOrSet),
        f("domainname", Shape::Text),
        printed("entrypoint", Shape::Command, Printed::OrNull),
        printed("env_file", Shape::OneOrMore(&ENV_FILE), Printed::Never),
        f("environment", Shape::Pairs(true)),
        f("expose", Shape::Scalars),
        printed("extends", EXTENDS, Printed::Never),
        f("external_links", Shape::Set),
        f("extra_hosts", Shape::Hosts),
        f("gpus", Shape::AllOr(&GPUS)),
        f("group_add", Shape::Scalars),
        f("healthcheck", Shape::Object(&HEALTHCHECK)),
        f("hostname", Shape::Text),
        f("image", Shape::Text),
        given("init", Shape::Bool),
        f("ipc", Shape::Text),
        f("isolation", Shape::Text),
        printed("label_file", Shape::TextOrTexts, Printed::Never),
        f("labels", Shape::Pairs(false)),
        f("links", Shape::Set),
        f("logging", Shape::Object(&LOGGING)),
        f("mac_address", Shape::Text),
        f("mem_limit", Shape::Bytes),
        f("mem_reservation", Shape::Bytes),
        f("mem_swappiness", Shape::Bytes),
        f("memswap_limit", Shape::Bytes),
        f("models", Shape::NamesOr(&SERVICE_MODEL)),
        f("network_mode", Shape::Text),
        f("networks", Shape::NamesOr(&ATTACHMENT)),
        f("oom_kill_disable", Shape::Bool),
        f("oom_score_adj", Shape::Whole(-1000, 1000)),
        f("pid", Shape::OrNull(&Shape::Text)),
        f("pids_limit", Shape::Int),
        f("platform", Shape::Text),
        f("ports", Shape::List(&PORT)),
        f("post_start", Shape::List(&HOOK)),
        f("pre_start", Shape::List(&PRE_START)),
        f("pre_stop", Shape::List(&HOOK)),
        f("privileged", Shape::Bool),
        f("profiles", Shape::Set),
        f("provider", Shape::Object(&PROVIDER)),
        f("pull_policy", Shape::Text),
        f("pull_refresh_after", Shape::Text),
        f("read_only", Shape::Bool),
        f("restart", Shape::Text),
        f("runtime", Shape::Text),
        given("scale", WHOLE),
        f("secrets", FILE_MOUNTS),
        f("security_opt", Shape::Set),
        f("shm_size", Shape::Bytes),
        f("stdin_open", Shape::Bool),
        given("stop_grace_period", Shape::Duration),
        f("stop_signal", Shape::Text),
        f("storage_opt", Shape::Options(true)),
        f("sysctls", Shape::Pairs(false)),
        f("tmpfs", Shape::TextOrSet),
        f("tty", Shape::Bool),
        f("ulimits", Shape::Named(&Shape::Ulimit)),
        f("use_api_socket", Shape::Bool),
        f("user", Shape::Text),
        f("userns_mode", Shape::Text),
        f("uts", Shape::Text),
        f("volumes", Shape::List(&MOUNT)),
        f("volumes_from", Shape::Set),
        f("working_dir", Shape::Text),
    ],
);

static BUILD: Shape = Shape::Object(&object(
    "`build`",
    &[
        f("additional_contexts", Shape::Pairs(false)),
        f("args", Shape::Pairs(true)),
        f("cache_from", Shape::Texts),
        f("cache_to", Shape::Texts),
        f("context", Shape::Text),
        f("dockerfile", Shape::Text),
        f("dockerfile_inline", Shape::Text),
        f("entitlements", Shape::Texts),
        f("extra_hosts", Shape::Hosts),
        f("isolation", Shape::Text),
        f("labels", Shape::Pairs(false)),
        f("network", Shape::Text),
        f("no_cache", Shape::Bool),
        f("no_cache_filter", Shape::TextOrSet),
        f("platforms", Shape::Texts),
        f("privileged", Shape::Bool),
        f("provenance", Shape::Any),
        f("pull", Shape::Bool),
        f("sbom", Shape::Any),
        f("secrets", FILE_MOUNTS),
        f("shm_size", Shape::Bytes),
        f("ssh", Shape::Ssh),
        f("tags", Shape::Texts),
        f("target", Shape::Text),
        f("ulimits", Shape::Named(&Shape::Ulimit)),
    ],
));

static BLKIO: Object = Object {
    extensions: false,
    ..object(
        "`blkio_config`",
        &[
            f("device_read_bps", Shape::List(&BLKIO_RATE)),
            f("device_read_iops", Shape::List(&BLKIO_RATE)),
            f("device_write_bps", Shape::List(&BLKIO_RATE)),
            f("device_write_iops", Shape::List(&BLKIO_RATE)),
            f("weight", COUNT),
            f("weight_device", Shape::List(&BLKIO_WEIGHT)),
        ],
    )
};
static BLKIO_RATE: Shape = Shape::Object(&Object {
    capitals: true,
    extensions: false,
    ..object("a block device limit", &[given("path", Shape::Text), given("rate", Shape::Bytes)])
});
static BLKIO_WEIGHT: Shape = Shape::Object(&Object {
    capitals: true,
    extensions: false,
    ..object("a block device weight", &[given("path", Shape::Text), given("weight", COUNT)])
});

static CREDENTIAL_SPEC: Object = object(
    "`credential_spec`",
    &[f("config", Shape::Text), f("file", Shape::Text), f("registry", Shape::Text)],
);

static DEPENDENCY: Shape = Shape::Object(&Object {
    required: &["condition"],
    ..object(
        "a dependency",
        &[
            f(
                "condition",
                Shape::Word(&["service_completed_successfully", "service_healthy", "service_started"]),
            ),
            given("required", Shape::NotText(&Shape::Bool)),
            f("restart", Shape::Bool),
        ],
    )
});

static DEPLOY: Shape = Shape::Object(&object(
    "`deploy`",
    &[
        f("endpoint_mode", Shape::Text),
        f("labels", Shape::Pairs(false)),
        f("mode", Shape::Text),
        printed("placement", Shape::Object(&PLACEMENT), Printed::OrEmpty),
        given("replicas", WHOLE),
        printed("resources", Shape::Object(&RESOURCES), Printed::OrEmpty),
        f("restart_policy", Shape::Object(&RESTART_POLICY)),
        f("rollback_config", Shape::Object(&UPDATE_CONFIG)),
        f("update_config", Shape::Object(&UPDATE_CONFIG)),
    ],
));
static PLACEMENT: Object = object(
    "`placement`",
    &[
        f("constraints", Shape::Texts),
        f("max_replicas_per_node", COUNT),
        f("preferences", Shape::List(&PREFERENCE)),
    ],
);
static PREFERENCE: Shape = Shape::Object(&object("a placement preference", &[f("spread", Shape::Text)]));
static RESOURCES: Object = object(
    "`resources`",
    &[
        f(
            "limits",
            Shape::Object(&object(
                "`limits`",
                &[f("cpus", Shape::Float), f("memory", Shape::BytesText), f("pids", WHOLE)],
            )),
        ),
        f(
            "reservations",
            Shape::Object(&object(
                "`reservations`",
                &[
                    f("cpus", Shape::Float),
                    f("devices", Shape::List(&DEVICE_REQUEST)),
                    f("generic_resources", Shape::List(&GENERIC_RESOURCE)),
                    f("memory", Shape::BytesText),
                ],
            )),
        ),
    ],
);
static GENERIC_RESOURCE: Shape = Shape::Object(&object(
    "a generic resource",
    &[f(
        "discrete_resource_spec",
        Shape::Object(&object(
            "a discrete resource",
            &[given("kind", Shape::Text), given("value", Shape::Int)],
        )),
    )],
));
static RESTART_POLICY: Object = object(
    "`restart_policy`",
    &[
        f("condition", Shape::Text),
        given("delay", Shape::Duration),
        given("max_attempts", COUNT),
        given("window", Shape::Duration),
    ],
);
static UPDATE_CONFIG: Object = object(
    "`update_config`",
    &[
        f("delay", Shape::Duration),
        f("failure_action", Shape::Text),
        f("max_failure_ratio", Shape::Float),
        f("monitor", Shape::Duration),
        f("order", Shape::Word(&["start-first", "stop-first"])),
        given("parallelism", COUNT),
    ],
);

static DEVELOP: Shape = Shape::Object(&object("`develop`", &[f("watch", Shape::List(&WATCH))]));
static WATCH: Shape = Shape::Object(&Object {
    required: &["action", "path"],
    ..object(
        "a watch rule",
        &[
            given("action", Shape::Word(&["rebuild", "restart", "sync", "sync+exec", "sync+restart"])),
            printed("exec", Shape::Object(&HOOK_OBJECT), Printed::OrEmpty),
            f("ignore", Shape::TextOrSet),
            f("include", Shape::TextOrSet),
            f("initial_sync", Shape::Bool),
            given("path", Shape::Text),
            f("target", Shape::Text),
        ],
    )
});

static DEVICE: Shape = Shape::Short(&Shape::Object(&Object {
    required: &["source", "target"],
    ..object("a device", &[f("permissions", Shape::Text), f("source", Shape::Text), f("target", Shape::Text)])
}));
static DEVICE_FIELDS: &[Field] = &[
    f("capabilities", Shape::Set),
    f("count", Shape::Count),
    f("device_ids", Shape::Set),
    f("driver", Shape::Text),
    f("options", Shape::Pairs(false)),
];
static DEVICE_REQUEST: Shape =
    Shape::Object(&Object { required: &["capabilities"], ..object("a device request", DEVICE_FIELDS) });
static GPUS: Shape = Shape::List(&GPU);
static GPU: Shape = Shape::Object(&object("a GPU request", DEVICE_FIELDS));

static ENV_FILE: Shape = Shape::Short(&Shape::Object(&Object {
    required: &["path"],
    extensions: false,
    ..object(
        "an env file",
        &[f("format", Shape::Text), given("path", Shape::Text), given("required", Shape::Bool)],
    )
}));
/// `extends`.
pub(crate) const EXTENDS: Shape = Shape::Short(&EXTENDS_LONG);
static EXTENDS_LONG: Shape = Shape::Object(&Object {
    required: &["service"],
    extensions: false,
    ..object("`extends`", &[f("file", Shape::Text), f("service", Shape::Text)])
});

const FILE_MOUNTS: Shape = Shape::List(&FILE_MOUNT);
static FILE_MOUNT: Shape = Shape::Short(&Shape::Object(&Object {
    required: &["source"],
    ..object(
        "a config or secret",
        &[
            f("gid", Shape::Text),
            given("mode", Shape::Natural),
            f("source", Shape::Text),
            f("target", Shape::Text),
            f("uid", Shape::Text),
        ],
    )
}));

static HEALTHCHECK: Object = object(
    "a health check",
    &[
        f("disable", Shape::Bool),
        given("interval", Shape::Duration),
        given("retries", Shape::Natural),
        given("start_interval", Shape::Duration),
        given("start_period", Shape::Duration),
        f("test", Shape::Test),
        given("timeout", Shape::Duration),
    ],
);
static LOGGING: Object = object("`logging`", &[f("driver", Shape::Text), f("options", Shape::Options(true))]);

static HOOK: Shape = Shape::Object(&HOOK_OBJECT);
static HOOK_OBJECT: Object = object(
    "a hook",
    &[
        printed("command", Shape::Command, Printed::OrNull),
        f("environment", Shape::Pairs(true)),
        f("privileged", Shape::Bool),
        f("user", Shape::Text),
        f("working_dir", Shape::Text),
    ],
);
static PRE_START: Shape = Shape::Object(&object(
    "a `pre_start` hook",
    &[
        printed("command", Shape::Command, Printed::OrNull),
        f("environment", Shape::Pairs(true)),
        f("image", Shape::Text),
        f("per_replica", Shape::Bool),
        f("privileged", Shape::Bool),
        f("user", Shape::Text),
        f("working_dir", Shape::Text),
    ],
));

static SERVICE_MODEL: Shape = Shape::OrNull(&Shape::Object(&object(
    "a model reference",
    &[f("endpoint_var", Shape::Text), f("model_var", Shape::Text)],
)));
static PROVIDER: Object = Object {
    required: &["type"],
    ..object("`provider`", &[f("options", Shape::Any), f("type", Shape::Text)])
};

static ATTACHMENT: Shape = Shape::OrNull(&Shape::Object(&object(
    "a network attachment",
    &[
        f("aliases", Shape::Set),
        f("driver_opts", Shape::Options(false)),
        // Docker Compose 2.26.1 reads and forgets it; the model keeps it.
        printed("gw_priority", Shape::NotText(&Shape::Int), Printed::Never),
        f("interface_name", Shape::Text),
        f("ipv4_address", Shape::Text),
        f("ipv6_address", Shape::Text),
        f("link_local_ips", Shape::Set),
        f("mac_address", Shape::Text),
        f("priority", Shape::NotText(&Shape::Int)),
    ],
)));

static PORT: Shape = Shape::ShortNumber(&Shape::Object(&Object {
    required: &["target"],
    ..object(
        "a port",
        &[
            f("app_protocol", Shape::Text),
            f("host_ip", Shape::Text),
            f("mode", Shape::Text),
            f("name", Shape::Text),
            f("protocol", Shape::Text),
            f("published", Shape::Scalar),
            f("target", COUNT),
        ],
    )
}));

static MOUNT: Shape = Shape::Short(&Shape::Object(&Object {
    required: &["target", "type"],
    ..object(
        "a mount",
        &[
            f("bind", Shape::Object(&MOUNT_BIND)),
            f("consistency", Shape::Text),
            f("image", Shape::Object(&object("`image`", &[f("subpath", Shape::Text)]))),
            f("read_only", Shape::Bool),
            f("source", Shape::Text),
            f("target", Shape::Text),
            f("tmpfs", Shape::Object(&MOUNT_TMPFS)),
            f("type", Shape::Word(&["bind", "cluster", "image", "npipe", "tmpfs", "volume"])),
            f("volume", Shape::Object(&MOUNT_VOLUME)),
        ],
    )
}));
static MOUNT_BIND: Object = object(
    "`bind`",
    &[
        f("create_host_path", Shape::Bool),
        f("propagation", Shape::Text),
        f("recursive", Shape::Word(&["disabled", "enabled", "readonly", "writable"])),
        f("selinux", Shape::Word(&["Z", "z"])),
    ],
);
static MOUNT_TMPFS: Object = object("`tmpfs`", &[f("mode", Shape::Natural), f("size", Shape::Bytes)]);
static MOUNT_VOLUME: Object = object(
    "`volume`",
    &[f("labels", Shape::Pairs(false)), f("nocopy", Shape::Bool), f("subpath", Shape::Text)],
);
