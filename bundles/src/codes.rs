//! Stable error codes: what a person can look up, a script can match and a report can carry.
//!
//! One code stands for one cause a person can act on, not for one line of source. Codes are never reused
//! and never change their meaning. This crate owns the type and the codes `KE-2xxx`; other crates declare
//! their own tables of the same type with [`codes!`](crate::codes!), and the reference page is generated from all of them.

/// One entry of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// `KE-` and four digits; the first digit says which part: 2 bundles, 3 deployments, 4 engine,
    /// 5 tether, 6 local store and command line, 7 hub.
    pub id: &'static str,
    /// Exit code of the process, see [`exit`].
    pub exit: u8,
    /// Whether asking again, unchanged, can succeed (network, disk) or cannot (signature, policy).
    pub retry: bool,
    /// What happened, as a sentence without the final full stop.
    pub cause: &'static str,
    /// What to do about it, likewise.
    pub remedy: &'static str,
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.id)
    }
}

/// An error that a user may see: it has an entry in the catalogue.
pub trait Coded {
    /// The entry that says cause, remedy and exit code.
    fn code(&self) -> Code;
}

impl Coded for std::convert::Infallible {
    fn code(&self) -> Code {
        match *self {}
    }
}

/// Exit codes, the same for `kedge` and `kedgectl`.
pub mod exit {
    macro_rules! exits {
        ($($name:ident = $number:literal, $meaning:literal;)*) => {
            $(#[doc = $meaning] pub const $name: u8 = $number;)*
            /// Every exit code but 0, with its meaning, in the order of the numbers.
            pub const ALL: &[(u8, &str)] = &[$(($number, $meaning)),*];
        };
    }

    exits! {
        UNEXPECTED = 1, "Something that should not happen.";
        USAGE = 2, "The command line or a configuration file is wrong.";
        CHANGES = 3, "`kedge diff` has found something to do; nothing went wrong.";
        MALFORMED = 10, "Input is not what it should be: not a bundle, not JSON, not a compose file.";
        UNTRUSTED = 11, "Not signed by those who may sign, or not what was signed.";
        EXPIRED = 12, "Signed, but no longer valid.";
        OLDER = 13, "Older than what was already accepted or than the floor.";
        AUDIENCE = 14, "For another site, product or stream.";
        PARAMETER = 15, "A parameter is missing or not acceptable.";
        POLICY = 16, "The customer's rules say no.";
        ENGINE = 20, "The container engine does not answer.";
        SPACE = 21, "Not enough disk.";
        PREFLIGHT = 22, "A check before deploying failed, such as a port that is taken.";
        DAEMON = 23, "The daemon cannot be reached.";
        RUNNING = 24, "Another agent already uses this state folder.";
        STORE = 25, "The state store is damaged.";
        ROLLED_BACK = 30, "The deployment failed and the previous generation runs again.";
        FAILED = 31, "The deployment failed and nothing could be restored.";
        HUB = 40, "The hub, or a registry, cannot be reached or refused.";
    }
}

/// Declares a table of codes: one constant each, and `ALL` in the order given.
///
/// ```
/// mod codes {
///     kedge_bundle::codes! {
///         /// The engine is not there.
///         ENGINE_DOWN = "KE-4001", exit 20, retry true,
///             "The container engine does not answer", "Start it: systemctl start docker";
///     }
/// }
/// assert_eq!(codes::ALL[0].id, codes::ENGINE_DOWN.id);
/// ```
#[macro_export]
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $id:literal, exit $exit:expr, retry $retry:literal, $cause:literal, $remedy:literal;)*) => {
        $($(#[$doc])* pub const $name: $crate::codes::Code = $crate::codes::Code {
            id: $id, exit: $exit, retry: $retry, cause: $cause, remedy: $remedy,
        };)*
        /// Every code of this table.
        pub const ALL: &[$crate::codes::Code] = &[$($name),*];
    };
}

codes! {
    /// Not our container, or our container with something else in it.
    ARCHIVE = "KE-2001", exit exit::MALFORMED, retry false,
        "The file is not a bundle, or its archive was altered", "Fetch the file again and compare its checksum with the vendor's";
    /// Ends too early.
    TRUNCATED = "KE-2002", exit exit::MALFORMED, retry false,
        "The bundle ends before it is complete", "Copy the file again; the medium or the transfer lost its end";
    /// Goes on after its end.
    TRAILING = "KE-2003", exit exit::MALFORMED, retry false,
        "There is data after the end of the bundle", "Fetch the file again; bundles cannot be concatenated";
    /// A signed document or a manifest cannot be parsed.
    DOCUMENT = "KE-2004", exit exit::MALFORMED, retry false,
        "A document in the bundle is not valid", "Ask the vendor for a bundle built with a supported kedgectl";
    /// Written by a newer version.
    FORMAT = "KE-2005", exit exit::MALFORMED, retry false,
        "The bundle uses a newer format than this version understands", "Update kedge";
    /// OCI rules broken.
    LAYOUT = "KE-2006", exit exit::MALFORMED, retry false,
        "The image layout in the bundle breaks a rule", "Ask the vendor to build the bundle again";
    /// A blob that nothing lists, or one that is listed and absent.
    BLOBS = "KE-2007", exit exit::MALFORMED, retry false,
        "The bundle holds other blobs than its signed documents list", "Fetch the file again and compare its checksum with the vendor's";
    /// Reading failed.
    READ = "KE-2008", exit exit::UNEXPECTED, retry true,
        "The bundle could not be read", "Check the medium or the connection, then try again";
    /// Storing failed.
    SINK = "KE-2009", exit exit::UNEXPECTED, retry true,
        "The content of the bundle could not be stored", "See the reason given with this error; free space or repair the disk, then try again";
    /// A layer unpacks to more than it may or cannot be unpacked.
    UNPACK = "KE-2010", exit exit::MALFORMED, retry false,
        "A compressed layer does not unpack as it should", "Ask the vendor to build the bundle again";
    /// Not the parts of one bundle.
    PARTS = "KE-2013", exit exit::MALFORMED, retry false,
        "These are not all the parts of one bundle, each whole and once", "Copy the part that the message names again, and leave parts of other bundles out";
    /// A delta document that contradicts itself or the release.
    DELTA = "KE-2021", exit exit::MALFORMED, retry false,
        "The bundle's list of what it leaves out breaks a rule", "Ask the vendor to build the delta again, or for the full bundle";
    /// The host lacks what a delta builds on.
    DELTA_BASE = "KE-2022", exit exit::PREFLIGHT, retry false,
        "The bundle leaves out layers that this host does not have", "Install the release that it builds on first, or use the full bundle";
    /// A patch that does not give its layer.
    PATCH = "KE-2023", exit exit::MALFORMED, retry false,
        "A patch does not give the layer that was signed", "Ask the vendor to build the delta again, or use the full bundle";

    /// Too few valid signatures.
    UNSIGNED = "KE-2101", exit exit::UNTRUSTED, retry false,
        "A document does not carry enough valid signatures", "Do not install it; ask the vendor which keys signed it";
    /// The chain does not pass through the pinned root.
    UNKNOWN_ROOT = "KE-2102", exit exit::UNTRUSTED, retry false,
        "The bundle's root of trust is not the one this host was given", "Compare the root fingerprint with the vendor by telephone before changing anything";
    /// A link of the chain is broken.
    ROOT_CHAIN = "KE-2103", exit exit::UNTRUSTED, retry false,
        "The chain of root documents is broken", "Ask the vendor for a bundle that carries the whole chain";
    /// Two different root documents with one version.
    ROOT_CONFLICT = "KE-2104", exit exit::UNTRUSTED, retry false,
        "Two different root documents claim the same version", "Treat it as an attack: tell the vendor, keep the file";
    /// A document of one role shown as another's.
    PAYLOAD_TYPE = "KE-2105", exit exit::UNTRUSTED, retry false,
        "A signed document is of another kind than its place demands", "Do not install it; ask the vendor for a proper bundle";
    /// Bytes differ from what was signed.
    CONTENT = "KE-2106", exit exit::UNTRUSTED, retry false,
        "Content differs from what was signed", "Fetch the file again; if it repeats, treat it as tampering";
    /// Same number, other release.
    EQUIVOCATION = "KE-2107", exit exit::UNTRUSTED, retry false,
        "A different release with the same sequence number was accepted before", "Treat it as an attack: tell the vendor, keep the file";
    /// The hub's statement of what is newest does not list this release.
    NOT_LISTED = "KE-2108", exit exit::UNTRUSTED, retry true,
        "The release is not the one that the hub's signed statement names", "Wait for the next statement; if it repeats, tell the vendor";
    /// Release past its date.
    RELEASE_EXPIRED = "KE-2109", exit exit::EXPIRED, retry false,
        "The release has expired", "Ask the vendor for a newer bundle, and check this host's clock";
    /// Root past its date.
    ROOT_EXPIRED = "KE-2110", exit exit::EXPIRED, retry false,
        "The root of trust has expired", "Ask the vendor for a bundle with a newer root, and check this host's clock";
    /// Fresh statement past its date.
    FRESH_EXPIRED = "KE-2111", exit exit::EXPIRED, retry true,
        "The hub's statement of the newest releases has expired", "Check this host's clock; if it is right, the hub must issue a new statement";
    /// Fresh statement before its date.
    FRESH_FUTURE = "KE-2129", exit exit::UNTRUSTED, retry true,
        "The hub's statement of the newest releases is from the future", "Check this host's clock; if it is right, the hub's is wrong or its key is misused";
    /// A delta document that belongs to another release.
    DELTA_RELEASE = "KE-2140", exit exit::UNTRUSTED, retry false,
        "The list of what is left out is of another release", "Fetch the bundle again; if it repeats, treat it as tampering";
    /// Lower sequence number.
    ROLLBACK = "KE-2112", exit exit::OLDER, retry false,
        "The release is older than one that was already accepted", "Ask the vendor to publish the older content as a new release";
    /// Below the floor.
    BELOW_FLOOR = "KE-2113", exit exit::OLDER, retry false,
        "The release is older than the vendor still allows", "Install a newer release";
    /// Older fresh statement.
    FRESH_ROLLBACK = "KE-2114", exit exit::OLDER, retry true,
        "The hub's statement is older than one already seen", "Wait for the next statement; if it repeats, tell the vendor";
    /// Other product.
    PRODUCT = "KE-2115", exit exit::AUDIENCE, retry false,
        "The bundle is for another product", "Choose the bundle of the product that this deployment runs";
    /// Other stream.
    STREAM = "KE-2116", exit exit::AUDIENCE, retry false,
        "The bundle is for another stream", "Choose a bundle of the stream that this deployment follows";
    /// Other site.
    SITE = "KE-2117", exit exit::AUDIENCE, retry false,
        "The bundle is for other sites", "Ask the vendor for a bundle whose audience includes this site";
    /// A licence that was superseded, or of an epoch that has been given up.
    LICENCE_STALE = "KE-2118", exit exit::OLDER, retry false,
        "The licence has been superseded", "Ask the vendor for the newest licence";
    /// Two licences claim one serial.
    LICENCE_CONFLICT = "KE-2119", exit exit::UNTRUSTED, retry false,
        "Two different licences carry one serial", "Somebody with the vendor's licence key made both: tell the vendor";
    /// A renewal whose time has not come.
    LICENCE_EARLY = "KE-2121", exit exit::EXPIRED, retry true,
        "The licence does not count yet, and would take the place of one that is installed", "Install it once it counts; the one installed stays until then";
    /// A licence for another product or site.
    LICENCE_ELSEWHERE = "KE-2120", exit exit::AUDIENCE, retry false,
        "The licence is for another product or site", "Ask the vendor for a licence for this site";

    /// Parameters missing or wrong.
    PARAMETERS = "KE-2201", exit exit::PARAMETER, retry false,
        "Parameters are missing or not acceptable", "Give the values named; `kedge` lists what the product asks for";
    /// The `x-kedge` section is wrong.
    PRODUCT_DOCUMENT = "KE-2202", exit exit::MALFORMED, retry false,
        "The product description is not valid", "Correct the x-kedge section of the compose file";

    /// The project cannot be made into a bundle.
    PROJECT = "KE-2301", exit exit::MALFORMED, retry false,
        "The project cannot be built into a bundle", "Correct what the message names";
    /// Image not there.
    IMAGE = "KE-2303", exit exit::MALFORMED, retry true,
        "An image could not be read from its source", "Check the reference, the source and the credentials";
    /// Bundles of which no delta can be made.
    DELTA_INPUT = "KE-2311", exit exit::USAGE, retry false,
        "No delta can be made of these bundles", "Give the full bundle of the new release and older bundles of the same product";
    /// Key files.
    KEY = "KE-2304", exit exit::USAGE, retry false,
        "A signing key could not be used", "Check the path and the passphrase, or what the signing command says";
    /// A change of the root that cannot be made.
    CEREMONY = "KE-2306", exit exit::USAGE, retry false,
        "The root document cannot be changed like this", "See what the root lists with `kedgectl keys root show`";
    /// A registry that does not do what it is asked.
    REGISTRY = "KE-2307", exit exit::HUB, retry true,
        "A registry does not answer, or with an error", "Check the registry's name, the network and what the registry says; then try again";
    /// A login that a registry does not take.
    REGISTRY_LOGIN = "KE-2308", exit exit::USAGE, retry false,
        "The registry does not take this login", "Log in with `docker login`, or give --username and --password-stdin";
    /// Something else under that name in a registry.
    NOT_A_BUNDLE = "KE-2309", exit exit::MALFORMED, retry false,
        "This is not a bundle that a registry can hold or holds", "Check the name and the tag; `kedgectl bundle push` puts bundles into registries";
    /// A layer whose packages cannot be listed.
    BILL = "KE-2310", exit exit::MALFORMED, retry false,
        "What a layer holds could not be listed", "Look at the image that the message names; of a delta, ask the full bundle";
    /// Writing the output.
    OUTPUT = "KE-2305", exit exit::UNEXPECTED, retry true,
        "The output could not be written", "Check the path, permissions and free space";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_well_formed_and_ours() {
        let mut seen = std::collections::BTreeSet::new();
        for code in ALL {
            assert!(code.id.starts_with("KE-2") && code.id.len() == 7, "{}", code.id);
            assert!(seen.insert(code.id), "{} is there twice", code.id);
            assert!(!code.cause.ends_with('.') && !code.remedy.ends_with('.'), "{}", code.id);
        }
    }
}
