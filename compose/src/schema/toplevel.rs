//! The keys of a project and of its networks, volumes, configs and secrets.

use super::service::SERVICE;
use super::{Object, Printed, Shape, f, object, printed};

/// A whole compose file.
pub(crate) static PROJECT: Object = object(
    "a compose file",
    &[
        f("configs", Shape::Named(&CONFIG)),
        printed("include", INCLUDES, Printed::Never),
        f("models", Shape::Named(&MODEL)),
        f("name", Shape::Text),
        f("networks", Shape::Named(&NETWORK)),
        f("secrets", Shape::Named(&SECRET)),
        printed("services", Shape::Named(&SERVICE), Printed::OrEmpty),
        printed("version", Shape::Text, Printed::Never),
        f("volumes", Shape::Named(&VOLUME)),
    ],
);

/// `include`.
pub(crate) const INCLUDES: Shape = Shape::List(&INCLUDE);
static INCLUDE: Shape = Shape::Short(&Shape::Object(&Object {
    extensions: false,
    ..object(
        "`include`",
        &[f("env_file", Shape::TextOrSet), f("path", Shape::TextOrSet), f("project_directory", Shape::Text)],
    )
}));

static NETWORK: Shape = Shape::OrNull(&Shape::Object(&object(
    "a network",
    &[
        f("attachable", Shape::Bool),
        f("driver", Shape::Text),
        f("driver_opts", Shape::Options(false)),
        printed("enable_ipv4", Shape::Bool, Printed::Given),
        printed("enable_ipv6", Shape::Bool, Printed::Given),
        f("external", Shape::External),
        f("internal", Shape::Bool),
        printed("ipam", Shape::Object(&IPAM), Printed::OrEmpty),
        f("labels", Shape::Pairs(false)),
        f("name", Shape::Text),
    ],
)));

static IPAM: Object = object(
    "`ipam`",
    &[
        f("config", Shape::List(&IPAM_POOL)),
        f("driver", Shape::Text),
        // Docker Compose reads and forgets these; the model keeps them.
        printed("options", Shape::TextMap, Printed::Never),
    ],
);

static IPAM_POOL: Shape = Shape::Object(&object(
    "an address pool",
    &[
        f("aux_addresses", Shape::TextMap),
        f("gateway", Shape::Text),
        f("ip_range", Shape::Text),
        f("subnet", Shape::Text),
    ],
));

static VOLUME: Shape = Shape::OrNull(&Shape::Object(&object(
    "a volume",
    &[
        f("driver", Shape::Text),
        f("driver_opts", Shape::Options(false)),
        f("external", Shape::External),
        f("labels", Shape::Pairs(false)),
        f("name", Shape::Text),
    ],
)));

static SECRET: Shape = Shape::Object(&object(
    "a secret",
    &[
        f("driver", Shape::Text),
        f("driver_opts", Shape::Options(false)),
        f("environment", Shape::Text),
        f("external", Shape::External),
        f("file", Shape::Text),
        f("labels", Shape::Pairs(false)),
        f("name", Shape::Text),
        f("template_driver", Shape::Text),
    ],
));

static CONFIG: Shape = Shape::Object(&object(
    "a config",
    &[
        f("content", Shape::Text),
        f("environment", Shape::Text),
        f("external", Shape::External),
        f("file", Shape::Text),
        f("labels", Shape::Pairs(false)),
        f("name", Shape::Text),
        f("template_driver", Shape::Text),
    ],
));

static MODEL: Shape = Shape::Object(&Object {
    required: &["model"],
    ..object(
        "a model",
        &[
            f("context_size", Shape::Int),
            f("model", Shape::Text),
            f("name", Shape::Text),
            f("runtime_flags", Shape::Texts),
        ],
    )
});
