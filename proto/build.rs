//! Compiles the `.proto` files with protox, so that no system `protoc` is needed.

/// Messages that the command lines print as JSON.
const SHOWN: [&str; 26] = [
    ".kedge.v1",
    ".kedge.local.v1.Progress",
    ".kedge.local.v1.Step",
    ".kedge.local.v1.Done",
    ".kedge.local.v1.Diff",
    ".kedge.local.v1.ServiceDiff",
    ".kedge.local.v1.FieldDiff",
    ".kedge.local.v1.Downtime",
    ".kedge.local.v1.ObjectDiff",
    ".kedge.local.v1.PauseReply",
    ".kedge.local.v1.EnrollReply",
    ".kedge.local.v1.Licence",
    ".kedge.local.v1.Inventory",
    ".kedge.local.v1.InventoryDeployment",
    ".kedge.local.v1.InventoryContainer",
    ".kedge.local.v1.StoredRelease",
    ".kedge.local.v1.SupportSession",
    ".kedge.local.v1.SupportSessionsReply",
    ".kedge.local.v1.SupportTerms",
    ".kedge.support.v1.News",
    ".kedge.support.v1.Welcome",
    ".kedge.local.v1.Garbage",
    ".kedge.local.v1.GarbageImage",
    ".kedge.hub.v1.Host",
    ".kedge.hub.v1.PublishedRelease",
    ".kedge.hub.v1.Token",
];

/// Fields that hold a `Phase`.
const PHASES: [&str; 3] =
    [".kedge.v1.DeploymentStatus.phase", ".kedge.v1.Event.phase", ".kedge.local.v1.Step.phase"];

/// Fields that hold a `Health`.
const HEALTHS: [&str; 2] = [".kedge.v1.DeploymentStatus.health", ".kedge.v1.ServiceStatus.health"];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["common.proto", "tether.proto", "local.proto", "hub.proto", "support.proto"];
    for file in files {
        println!("cargo:rerun-if-changed=proto/{file}");
    }
    let descriptors = protox::compile(files, ["proto"])?;
    // Blobs travel as `Bytes`, so that a chunk is never copied between socket and file.
    // No generated `connect` on clients: it would clash with the tether's own `Connect`.
    let mut builder = tonic_prost_build::configure().build_transport(false);
    // What people may ask for as JSON is serialisable: fields by their names here, enums in lower case,
    // and nothing for a field that is not set.
    for shown in SHOWN {
        builder = builder.type_attribute(shown, "#[derive(serde::Serialize)]");
    }
    builder = builder
        .enum_attribute(".kedge.v1", "#[serde(rename_all = \"snake_case\")]")
        .enum_attribute(".kedge.local.v1.Progress.body", "#[serde(rename_all = \"snake_case\")]")
        .message_attribute(".kedge.local.v1.Progress", "#[serde(transparent)]");
    for field in PHASES {
        builder = builder.field_attribute(field, "#[serde(serialize_with = \"crate::name::phase\")]");
    }
    for field in HEALTHS {
        builder = builder.field_attribute(field, "#[serde(serialize_with = \"crate::name::health\")]");
    }
    builder
        .bytes(".kedge.tether.v1.BlobChunk")
        .bytes(".kedge.local.v1.ImportRequest")
        .bytes(".kedge.hub.v1.PublishRequest")
        .bytes(".kedge.support.v1.Piece")
        .bytes(".kedge.support.v1.Data")
        .compile_fds(descriptors)?;
    Ok(())
}
