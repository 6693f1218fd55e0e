//! Keys of a service that have no effect, with the reason.

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// A project with it is refused.
    Refused,
    /// It is ignored, with a warning.
    Warned,
    /// It depends on the host, which is asked before anything is touched (`agent/src/plan/abilities.rs`,
    /// `agent/src/guard`), and no host of these tests has it.
    Host,
}

impl How {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Warned => "ignored",
            Self::Host => "by host",
        }
    }
}

/// A key, what becomes of it, why, and a service that has it.
pub(super) struct NotHonoured {
    pub(super) key: &'static str,
    pub(super) how: How,
    pub(super) why: &'static str,
    pub(super) compose: &'static str,
}

const fn no(key: &'static str, how: How, compose: &'static str, why: &'static str) -> NotHonoured {
    NotHonoured { key, how, why, compose }
}

pub(super) const NOT_HONOURED: &[NotHonoured] = &[
    no(
        "attach",
        How::Host,
        "image: x\nattach: false",
        "whose output a terminal shows; `kedge logs` shows what is asked for",
    ),
    no(
        "build",
        How::Warned,
        "image: x\nbuild: .",
        "nothing is built on a customer's host; the image is the one published",
    ),
    no("cpu_count", How::Host, "image: x\ncpu_count: 1", "for Windows: warned of by the plan"),
    no("cpu_percent", How::Host, "image: x\ncpu_percent: 50", "for Windows: warned of by the plan"),
    no(
        "cpu_rt_period",
        How::Host,
        "image: x\ncpu_rt_period: 1000",
        "needs a kernel with real-time groups; the engine refuses others",
    ),
    no(
        "cpu_rt_runtime",
        How::Host,
        "image: x\ncpu_rt_runtime: 400",
        "needs a kernel with real-time groups; the engine refuses others",
    ),
    no("credential_spec", How::Refused, "image: x\ncredential_spec: {file: f}", "for Windows"),
    no("develop", How::Warned, "image: x\ndevelop: {watch: [{path: ., action: rebuild}]}", "for development"),
    no("gpus", How::Host, "image: x\ngpus: all", "needs a GPU and the guard's leave; refused without"),
    no(
        "isolation",
        How::Host,
        "image: x\nisolation: hyperv",
        "for Windows: refused by the plan, `default` excepted",
    ),
    no(
        "models",
        How::Refused,
        "image: x\nmodels: [m]",
        "a model is run as a service with an image of its own",
    ),
    no("privileged", How::Host, "image: x\nprivileged: true", "needs the guard's leave; refused without"),
    no(
        "provider",
        How::Refused,
        "provider: {type: t}",
        "what is provided is run as a service, or given as a parameter",
    ),
    no(
        "pull_refresh_after",
        How::Refused,
        "image: x\npull_refresh_after: 1d",
        "images come with the release",
    ),
    no(
        "storage_opt",
        How::Host,
        "image: x\nstorage_opt: {size: 1G}",
        "needs a file system with project quotas; the engine refuses others",
    ),
    no(
        "use_api_socket",
        How::Refused,
        "image: x\nuse_api_socket: true",
        "who needs the engine mounts its socket openly, for the guard to judge",
    ),
];
