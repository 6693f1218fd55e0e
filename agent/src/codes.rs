//! The agent's part of the error catalogue: `KE-3xxx` deployments, `KE-5xxx` tether, `KE-6xxx` host and
//! command line. The engine's own `KE-4xxx` are in `engine::codes`.

kedge_bundle::codes! {
    /// Parameters are missing or invalid.
    PARAMETERS = "KE-3001", exit 15, retry false,
        "A parameter of the product is missing or not acceptable", "Give it with --set NAME=VALUE; `kedgectl bundle inspect` lists what the product takes";
    /// The product's compose files do not load on this host.
    PROJECT = "KE-3002", exit 10, retry false,
        "The product's compose files cannot be read with these parameters", "Ask the vendor for a corrected release, or change the parameter that the message names";
    /// A port that the release publishes is taken.
    PORT_TAKEN = "KE-3003", exit 22, retry true,
        "A port that the release publishes is already in use on this host", "Stop what uses it, or choose another port with --set";
    /// Not enough disk for the release.
    NO_SPACE = "KE-3004", exit 21, retry true,
        "There is not enough free disk for this release", "Free space on the file systems that the message names";
    /// The release needs something this host does not have.
    PREFLIGHT = "KE-3005", exit 22, retry true,
        "This host cannot run the release as it is", "Mend what the message names, then try again";
    /// The deployment did not become healthy and the previous generation runs again.
    ROLLED_BACK = "KE-3006", exit 30, retry false,
        "The release did not become healthy; the previous one runs again", "See `kedge logs DEPLOYMENT`, and ask the vendor for a corrected release";
    /// The deployment failed and there was nothing to go back to.
    FAILED = "KE-3007", exit 31, retry true,
        "The release could not be brought up and there is no earlier one to go back to", "See `kedge logs DEPLOYMENT`";
    /// The release failed here before.
    QUARANTINED = "KE-3008", exit 16, retry false,
        "This release failed on this host before and is not tried again by itself", "Take a newer release, or try it again with `kedge import FILE`";
    /// There is no such deployment.
    NO_DEPLOYMENT = "KE-3009", exit 2, retry false,
        "There is no deployment of this name on this host", "`kedge deployments` lists those there are";
    /// A deployment is busy with another operation.
    BUSY = "KE-3010", exit 16, retry true,
        "Another operation of this deployment is under way", "Wait until it has ended: `kedge status --watch`";
    /// The bundle is for a product other than the deployment's.
    OTHER_PRODUCT = "KE-3011", exit 14, retry false,
        "The bundle holds another product than this deployment runs", "Give the new deployment another name with --deployment";
    /// A name that cannot be a deployment's.
    BAD_NAME = "KE-3012", exit 2, retry false,
        "A deployment's name has lower-case letters, digits, `-` and `_`, starts with a letter or digit and has at most 63 characters", "Choose such a name";
    /// Applying was interrupted or a step failed.
    APPLY = "KE-3013", exit 31, retry true,
        "A step of the deployment failed", "See the message and `docker events`; the agent tries again";
    /// The guard refuses what the release asks for.
    GUARD = "KE-3014", exit 16, retry false,
        "The customer's rules do not allow what the release asks for", "Whoever owns this host may allow it in guard.toml";
    /// The release is not offered.
    NOT_OFFERED = "KE-3015", exit 14, retry true,
        "The hub offers no release of this product and stream to this host", "Check the product's name, the stream and the audience with the vendor";
    /// There is no such service.
    NO_SERVICE = "KE-3016", exit 2, retry false,
        "The deployment has no service of this name", "Choose one of those that the message names";
    /// There is no licence for a product.
    NO_LICENCE = "KE-3061", exit 2, retry false,
        "There is no licence for this product on this host", "`kedge licence show` lists those there are; `kedge licence install FILE` takes one";
    /// The licence does not permit it.
    LICENCE = "KE-3060", exit 16, retry true,
        "The product's licence does not permit this", "Install a licence that does: `kedge licence install FILE`; what runs goes on";

    /// Nothing of this compose project is on the host.
    NO_PROJECT = "KE-3030", exit 2, retry false,
        "There is no compose project of this name on this host", "`docker compose ls --all` lists those there are";
    /// What is to be adopted belongs to another deployment.
    OTHERS = "KE-3031", exit 16, retry false,
        "The compose project belongs to another deployment", "Choose another project, or remove that deployment first";
    /// A deployment keeps its compose project.
    OTHER_PROJECT = "KE-3032", exit 16, retry false,
        "The deployment has another compose project, and its networks and volumes are named after it", "Adopt the project under a deployment's name that is free";
    /// What would be done is no longer what was agreed to.
    NOT_AGREED = "KE-3033", exit 16, retry true,
        "What would be done is no longer what was shown", "Look at it again, and say yes to that";
    /// Adopting would leave data behind in folders that the new containers do not use.
    LEFT_BEHIND = "KE-3034", exit 16, retry false,
        "Data of what runs now would be left behind", "Copy it to where the message says and say --leave-binds, or have the vendor use the same volume";
    /// Staging and adopting at once.
    STAGED_ADOPTION = "KE-3035", exit 2, retry false,
        "A release that is only to be stored cannot adopt a compose project", "Ask for one or the other";
    /// An adoption failed and the stack that was to be adopted was started again.
    AS_IT_WAS = "KE-3036", exit 30, retry false,
        "The release could not take over the compose project, which was started again as it was", "Mend what the message names, then adopt it again";

    /// The hub cannot be reached.
    HUB_UNREACHABLE = "KE-5001", exit 40, retry true,
        "The hub cannot be reached", "Check the address, the proxy and the firewall; everything on this host goes on meanwhile";
    /// The hub refused to enrol this host.
    ENROLMENT_REFUSED = "KE-5002", exit 40, retry false,
        "The hub refused to enrol this host", "Ask the vendor for a new token";
    /// The hub is not the one the token names.
    HUB_IDENTITY = "KE-5003", exit 11, retry false,
        "The hub's certificate does not lead to the authority that is pinned", "Something stands between this host and the hub; ask the vendor before you go on";
    /// The token cannot be read.
    BAD_TOKEN = "KE-5004", exit 2, retry false,
        "This is not an enrolment token", "Copy the whole token; it starts with `kt1.`";
    /// Not enrolled.
    NOT_ENROLLED = "KE-5005", exit 40, retry false,
        "This host is not enrolled with a hub", "`kedge enroll`, or bring the bundle as a file: `kedge import FILE`";
    /// Already enrolled.
    ENROLLED_ELSEWHERE = "KE-5006", exit 16, retry false,
        "This host is enrolled with another hub", "Remove that enrolment first";
    /// The line was lost in the middle.
    TETHER_LOST = "KE-5007", exit 40, retry true,
        "The line to the hub was lost", "Nothing: the agent connects again and goes on where it was";
    /// The hub sent something that does not follow the protocol.
    PROTOCOL = "KE-5008", exit 40, retry true,
        "The hub does not follow the protocol", "Compare the versions of agent and hub";

    /// What an interrupted fetch had left of a blob was no beginning of it.
    LEFTOVER = "KE-5010", exit 40, retry true,
        "What an interrupted fetch had left was damaged meanwhile", "Nothing: it was thrown away, and the agent fetches it anew; if it repeats, check the disk";
    /// No statement from a hub that had them.
    FRESH_MISSING = "KE-5011", exit 40, retry true,
        "The hub leaves out its statement of the newest releases", "The hub must issue one again; if nobody stopped it on purpose, treat it as an attack";
    /// A hub's address that is none.
    BAD_HUB = "KE-5009", exit 2, retry false,
        "This is not the address of a hub", "Give it as https://HOST or https://HOST:PORT";

    /// The kill switch is on.
    SUPPORT_OFF = "KE-6401", exit 16, retry false,
        "Support sessions are switched off on this host", "`kedge support on` permits them again, as guard.toml says";
    /// The customer's rules want no sessions, or want to be asked in another way.
    SUPPORT_MODE = "KE-6402", exit 16, retry false,
        "The customer's rules do not permit a support session now or in this way", "See `mode` in [support] of guard.toml";
    /// More than the customer's rules permit.
    SUPPORT_CEILING = "KE-6403", exit 16, retry false,
        "The customer's rules do not permit what the support request asks for", "Ask for less, or have the customer permit it in [support] of guard.toml";
    /// Too old, or made for a nonce that is gone.
    SUPPORT_STALE = "KE-6404", exit 12, retry false,
        "The support request is too old, or of before the agent's last restart", "Make a new request; check both clocks if it repeats";
    /// For another host or product.
    SUPPORT_AUDIENCE = "KE-6405", exit 14, retry false,
        "The support request is for another host or product", "Make a request for this host and what runs on it";
    /// Seen before.
    SUPPORT_KNOWN = "KE-6406", exit 13, retry false,
        "The support request was received before; a grant opens once", "Make a new request";
    /// The approval is not one for this request.
    SUPPORT_APPROVAL = "KE-6407", exit 11, retry false,
        "The approval does not count for this support request", "Approve exactly what was asked for, or less, with a key that guard.toml names";
    /// Not now.
    SUPPORT_STATE = "KE-6408", exit 16, retry false,
        "The support session is not in a state for this", "`kedge support ls` shows where it stands";
    /// The service may not be joined.
    SUPPORT_TARGET = "KE-6409", exit 16, retry false,
        "The service cannot be supported in this way: from there the host is in reach", "Choose another service; read its logs, or inspect it";
    /// Cannot be recorded.
    SUPPORT_RECORDING = "KE-6410", exit 25, retry true,
        "The support session cannot be recorded, so it is not held", "Check space and permissions of the folder that the message names";
    /// There is no such session.
    NO_SUPPORT_SESSION = "KE-6411", exit 2, retry false,
        "There is no support session of this name", "`kedge support ls` lists those there are";
    /// Not among what was granted.
    SUPPORT_SCOPE = "KE-6412", exit 16, retry false,
        "The support session was not granted this", "Make a request for it";
    /// No image to run commands in.
    SUPPORT_TOOLS = "KE-6413", exit 22, retry false,
        "There is no image with tools on this host that commands could run in", "Load one into the engine and name it as `tools_image` in [support] of guard.toml";

    /// The audit log was changed.
    AUDIT_BROKEN = "KE-6420", exit 11, retry false,
        "The audit log is not what was written", "Somebody has changed it, or the disk has: compare with a copy, from the line that the message names";
    /// The daemon does not answer.
    DAEMON_UNREACHABLE = "KE-6001", exit 23, retry true,
        "The agent does not answer on its socket", "Start it: systemctl start kedge, or `kedge agent`";
    /// Another agent is running on this state folder.
    ALREADY_RUNNING = "KE-6002", exit 24, retry false,
        "Another agent already uses this state folder", "Stop the other one, or give this one its own folder with --state-dir";
    /// The store does not open.
    STORE_DAMAGED = "KE-6003", exit 25, retry false,
        "The state store is damaged", "Move the folder that the message names away and start again: running stacks are adopted when their bundle is imported anew";
    /// A write to the store failed.
    STORE_WRITE = "KE-6004", exit 25, retry true,
        "The state store cannot be written", "Check the disk under the state folder: space, permissions, errors in the kernel's log";
    /// Configuration is wrong.
    CONFIG = "KE-6005", exit 2, retry false,
        "The configuration cannot be read", "Correct what the message names";
    /// A file or stream given on the command line cannot be read.
    UNREADABLE = "KE-6006", exit 10, retry false,
        "The file cannot be read", "Check the path and its permissions";
    /// No trust root yet.
    NO_ROOT = "KE-6007", exit 11, retry false,
        "This host trusts no vendor yet", "Give the fingerprint the vendor told you: --root-sha256 …, or enrol";
    /// Another root is trusted.
    OTHER_ROOT = "KE-6008", exit 11, retry false,
        "This host trusts another vendor's root", "One agent serves one vendor; use another state folder for another vendor";
    /// A file or folder of the agent cannot be written.
    STATE_FOLDER = "KE-6009", exit 25, retry true,
        "The agent cannot write to its state folder", "Check space and permissions of the folder that the message names";
    /// The caller may not.
    PERMISSION = "KE-6010", exit 23, retry false,
        "This user may not talk to the agent", "Use root, or a member of the group that owns the socket";
    /// A fingerprint that is none.
    BAD_FINGERPRINT = "KE-6011", exit 2, retry false,
        "This is not the fingerprint of a root", "Copy all 64 hexadecimal digits; `kedgectl keys show` prints them to the vendor";
    /// A file that was asked for cannot be written.
    UNWRITABLE = "KE-6021", exit 2, retry false,
        "The file or folder cannot be written", "Name an empty folder that this user may write to";
    /// A check of the host failed.
    UNFIT = "KE-6020", exit 22, retry true,
        "This host is not as an installation needs it", "Mend what `kedge doctor` names, and run it again";
    /// Something that should not happen.
    INTERNAL = "KE-6999", exit 1, retry true,
        "Something happened inside the agent that should not", "Please report it with the message and `kedge version`";
}
