//! The codes `KE-7xxx`: everything that can go wrong at the vendor's end.
//!
//! What is wrong with a bundle itself keeps its own code (`KE-2xxx`), whoever finds it.

use kedge_bundle::codes::exit;

kedge_bundle::codes! {
    /// Something that should not happen.
    UNEXPECTED = "KE-7000", exit exit::UNEXPECTED, retry true,
        "Something happened that should not", "Try again; if it repeats, report it with the message";
    /// The data folder cannot be used.
    DATA_FOLDER = "KE-7001", exit exit::USAGE, retry false,
        "The hub's data folder cannot be used", "Check the path given with --data, its owner and its permissions";
    /// Another hub holds the lock.
    RUNNING = "KE-7002", exit exit::RUNNING, retry false,
        "Another hub already uses this data folder", "Stop the other hub, or give this one a folder of its own";
    /// The store is damaged or cannot be written.
    STORE = "KE-7003", exit exit::STORE, retry true,
        "The hub's store cannot be read or written", "Check free space and the disk; restore the data folder from a backup if it is damaged";
    /// The port is taken or the address is not ours.
    LISTEN = "KE-7004", exit exit::PREFLIGHT, retry false,
        "The hub cannot listen on its address", "Choose a free port with --listen, or stop what uses it";
    /// The hub's own certificates.
    AUTHORITY = "KE-7005", exit exit::STORE, retry false,
        "The hub's certificate authority cannot be used", "Restore authority.pem in the data folder; a new one would cut off every enrolled host";
    /// A setting is missing or contradicts what was set before.
    CONFIG = "KE-7006", exit exit::USAGE, retry false,
        "The hub was not given what it needs to start", "Correct the setting that the message names";
    /// The administration socket does not answer.
    UNREACHABLE = "KE-7007", exit exit::DAEMON, retry true,
        "No hub answers on its administration socket", "Start it with `kedgectl hub serve`, or name its folder with --data";

    /// Not a token at all.
    TOKEN_FORM = "KE-7101", exit exit::HUB, retry false,
        "This is not an enrolment token", "Copy the whole token; it begins with kt1. and has four parts";
    /// No such token, or the secret is another.
    TOKEN_UNKNOWN = "KE-7102", exit exit::HUB, retry false,
        "The enrolment token is not known", "Ask the vendor for a new token";
    /// Too late.
    TOKEN_EXPIRED = "KE-7103", exit exit::HUB, retry false,
        "The enrolment token has expired", "Ask the vendor for a new token";
    /// No uses left.
    TOKEN_USED = "KE-7104", exit exit::HUB, retry false,
        "The enrolment token has been used as often as it may be", "Ask the vendor for a new token";
    /// The certificate request is not acceptable.
    CSR = "KE-7105", exit exit::HUB, retry false,
        "The certificate request is not acceptable", "It must be PKCS#10, signed with its own P-256 or Ed25519 key";
    /// The same request ID came with another key.
    REQUEST_CONFLICT = "KE-7106", exit exit::HUB, retry false,
        "This enrolment request was already answered for another key", "Enrol again as a new request";
    /// Too many attempts.
    BUSY = "KE-7107", exit exit::HUB, retry true,
        "Too many enrolments come from this address", "Wait a minute, then try again";

    /// No client certificate.
    NO_CERTIFICATE = "KE-7201", exit exit::HUB, retry false,
        "The host showed no certificate of this hub", "Enrol the host with `kedge enroll`";
    /// The host may not connect any more.
    REVOKED = "KE-7202", exit exit::HUB, retry false,
        "This host's enrolment was revoked", "Enrol the host again with a new token";
    /// What came is not the protocol.
    PROTOCOL = "KE-7203", exit exit::HUB, retry false,
        "The host does not speak this hub's protocol", "Update the older of hub and agent";
    /// No hello in time.
    SILENT = "KE-7204", exit exit::HUB, retry true,
        "The host said nothing after connecting", "Check the network between host and hub";

    /// Not published, or not for this site.
    RELEASE_UNKNOWN = "KE-7301", exit exit::HUB, retry false,
        "The hub has no such release for this site", "Ask the vendor to publish it for this site";
    /// The release has no such blob, or the offset lies behind its end.
    BLOB_UNKNOWN = "KE-7302", exit exit::HUB, retry false,
        "The release has no such content", "Fetch the release's documents again";
    /// `--stream` says something else than the bundle.
    STREAM_DIFFERS = "KE-7303", exit exit::AUDIENCE, retry false,
        "The bundle is for another stream than the one asked for", "Build the bundle for that stream, or publish it to its own";
    /// More bytes than announced or than allowed.
    TOO_LARGE = "KE-7304", exit exit::MALFORMED, retry false,
        "More was sent than is allowed", "Send what was announced; see the limits in the message";
    /// The upload ended early or its frames are out of order.
    UPLOAD = "KE-7305", exit exit::MALFORMED, retry true,
        "The upload is not complete", "Publish the file again";
    /// Not enough room for an upload.
    NO_SPACE = "KE-7308", exit exit::SPACE, retry true,
        "The hub's disk is too full", "Free space in the hub's data folder";
    /// No such host.
    HOST_UNKNOWN = "KE-7306", exit exit::USAGE, retry false,
        "The hub knows no such host", "See `kedgectl fleet ls`";
    /// The key for fresh statements cannot be used.
    FRESH_KEY = "KE-7307", exit exit::USAGE, retry false,
        "The key for fresh statements cannot be used", "Give the fresh key that the root document names, with its passphrase";

    /// A host that is asked and not there.
    HOST_SILENT = "KE-7309", exit exit::HUB, retry true,
        "The host is not connected to the hub, or does not answer", "See `kedgectl fleet ls`; older agents know no support sessions";
    /// The host refused a support request.
    SUPPORT_REFUSED = "KE-7501", exit exit::POLICY, retry false,
        "The host did not take the support request", "See the message: it is the customer's host that decides";
    /// The session ended, or did not come about.
    SUPPORT_OVER = "KE-7502", exit exit::POLICY, retry false,
        "The support session is over", "Make a new request";
    /// No such session here.
    SUPPORT_UNKNOWN = "KE-7503", exit exit::USAGE, retry false,
        "There is no support session of this name on this machine", "`kedgectl support ls` lists those that were asked for here";
    /// Nobody holds the session.
    SUPPORT_NOT_HELD = "KE-7504", exit exit::DAEMON, retry true,
        "The support session is not open", "`kedgectl support wait` opens it once the customer has approved";
    /// What was run there failed.
    SUPPORT_COMMAND = "KE-7507", exit exit::UNEXPECTED, retry false,
        "The command on the host ended with another code than 0", "See what it said";
    /// The key of the host is not the one it had.
    SUPPORT_HOST_KEY = "KE-7505", exit exit::UNTRUSTED, retry false,
        "The host's key for support sessions is not the one that is known", "Somebody may stand between; ask the customer for `host_key`, and forget the old one if they say that it changed";
    /// A key that no host would accept for support requests.
    SUPPORT_KEY = "KE-7506", exit exit::USAGE, retry false,
        "The root does not list this key for support: no host would accept the signature",
        "Sign with one of the support keys that `kedgectl keys show` lists, or give the root that lists this one";
    /// A file cannot be read.
    INPUT = "KE-7401", exit exit::USAGE, retry false,
        "A file cannot be read", "Check the path and the permissions";
    /// A file cannot be written.
    OUTPUT = "KE-7402", exit exit::UNEXPECTED, retry true,
        "A file cannot be written", "Check the path, the permissions and free space";
    /// Would overwrite keys.
    EXISTS = "KE-7403", exit exit::USAGE, retry false,
        "There are keys in this folder already", "Choose another folder; keys are never overwritten";
    /// Would overwrite a file.
    OUTPUT_EXISTS = "KE-7408", exit exit::USAGE, retry false,
        "There is something at the place of the output already", "Choose another name, or overwrite a file with --force";
    /// No folder for a file.
    NO_FOLDER = "KE-7409", exit exit::USAGE, retry false,
        "The folder for the output does not exist", "Make the folder, or correct the path";
    /// No passphrase, or two that differ.
    PASSPHRASE = "KE-7404", exit exit::USAGE, retry false,
        "A passphrase is needed", "Give --passphrase-file, set KEDGE_PASSPHRASE_FILE, or run on a terminal";
    /// An argument cannot be used.
    ARGUMENT = "KE-7405", exit exit::USAGE, retry false,
        "An argument cannot be used", "See --help";
    /// A key that hosts would not accept.
    RELEASE_KEY = "KE-7407", exit exit::USAGE, retry false,
        "The root does not list this key for releases: no host would accept the signature",
        "Sign with one of the release keys that `kedgectl keys show` lists, or give the root that lists this one";
    /// A key that no host would accept for licences.
    LICENCE_KEY = "KE-7420", exit exit::USAGE, retry false,
        "The root does not list this key for licences: no host would accept the signature",
        "Sign with one of the licence keys that `kedgectl keys show` lists, or give the root that lists this one";
    /// The compose file is wrong.
    COMPOSE = "KE-7406", exit exit::MALFORMED, retry false,
        "The compose files are not valid", "Correct what the messages name";
}

#[cfg(test)]
mod tests {
    #[test]
    fn codes_are_unique_and_of_the_hub() {
        let mut seen = std::collections::BTreeSet::new();
        for code in super::ALL {
            assert!(code.id.starts_with("KE-7") && code.id.len() == 7, "{}", code.id);
            assert!(seen.insert(code.id), "{} is there twice", code.id);
            assert!(!code.cause.ends_with('.') && !code.remedy.ends_with('.'), "{}", code.id);
        }
    }
}
