//! The engine's part of the error catalogue, `KE-4xxx`.

kedge_bundle::codes! {
    /// Nobody answers on the engine's socket.
    UNREACHABLE = "KE-4001", exit 20, retry true,
        "The container engine does not answer", "Start it (systemctl start docker) and check the socket that the message names";
    /// The agent may not use the socket.
    DENIED = "KE-4002", exit 20, retry false,
        "The container engine refuses the agent", "Run the agent as root or as a member of the group that owns the engine's socket";
    /// No answer in time.
    TIMEOUT = "KE-4003", exit 20, retry true,
        "The container engine did not answer in time", "See the engine's log and the load of the host; the agent tries again";
    /// The engine knows no such object.
    NOT_FOUND = "KE-4004", exit 20, retry true,
        "The engine has no such container, network or volume", "Nothing: the agent looks again and makes what is missing";
    /// The image is not in the engine.
    NO_IMAGE = "KE-4005", exit 20, retry true,
        "The engine does not have the image", "Import the bundle again; the agent loads the image before it makes containers";
    /// The name belongs to something else.
    NAME_TAKEN = "KE-4006", exit 22, retry false,
        "The name is already in use in the engine", "Rename or remove the object that the message names";
    /// The state of the object does not allow it.
    CONFLICT = "KE-4007", exit 20, retry true,
        "The object is in a state that does not allow this", "Nothing: the agent looks again and plans anew";
    /// A published port is taken.
    PORT_TAKEN = "KE-4008", exit 22, retry true,
        "A port that a container publishes is already in use on this host", "Stop what uses the port, or choose another one";
    /// The engine's disk is full.
    NO_SPACE = "KE-4009", exit 21, retry true,
        "There is no space left for the container engine", "Free space under the engine's root folder";
    /// The engine does not accept what was asked.
    REFUSED = "KE-4010", exit 22, retry false,
        "The engine does not accept the request", "Ask the vendor for a corrected release; the message says what the engine refused";
    /// The container could not be started.
    START_FAILED = "KE-4011", exit 22, retry false,
        "The container could not be started", "See the message: usually a missing command, file or device";
    /// The engine failed inside.
    ENGINE = "KE-4012", exit 20, retry true,
        "The container engine failed", "See the engine's log (journalctl -u docker)";
    /// The answer makes no sense.
    PROTOCOL = "KE-4013", exit 20, retry true,
        "The container engine's answer could not be understood", "Use Docker Engine 20.10 or newer";
    /// The image that was loaded is not the signed one.
    WRONG_IMAGE = "KE-4014", exit 11, retry false,
        "The image in the engine is not the one that was signed", "Import the bundle again; if it persists, somebody alters the engine's storage";
    /// A blob of an image cannot be read.
    BLOB = "KE-4015", exit 25, retry true,
        "A part of an image cannot be read from the agent's store", "Import the bundle again";
    /// A health check says no.
    UNHEALTHY = "KE-4016", exit 31, retry false,
        "A container is not healthy", "See the output of its health check in the message, and `kedge logs`";
    /// A process ended that should not have, or with an error.
    ENDED = "KE-4017", exit 31, retry false,
        "A container ended when it should run, or with an error", "See its last lines in the message, and `kedge logs`";
    /// A lifecycle hook says no.
    HOOK_FAILED = "KE-4019", exit 31, retry false,
        "A lifecycle hook of a service failed", "See the hook's last lines in the message; the vendor can correct it with another release";
    /// A condition was not met in time.
    NOT_IN_TIME = "KE-4018", exit 31, retry true,
        "A container did not get where it should in time", "See `kedge logs`; a slow host may need a longer start period in its health check";
}
