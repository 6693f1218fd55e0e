//! `kedge export-compose`: what plain `docker compose` needs to go on without the agent.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use kedge_proto::local::v1 as local;

use super::failure::Failure;
use super::{Context, say};
use crate::codes;
use crate::problem::Problem;

/// Write the compose files and values with which plain `docker compose` goes on
///
/// The stack keeps its project name, networks and volumes; nothing is changed by exporting.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kedge export-compose shop -d ./shop
  kedge export-compose shop -d ./shop --secrets     with passwords, in a file that only you can read
  cd shop && docker compose up -d --no-recreate     after `apt remove kedge`: take over what runs")]
pub(super) struct Args {
    /// The deployment
    deployment: String,
    /// The folder to write, which must not hold anything yet
    #[arg(short = 'd', long = "dir", value_name = "DIR")]
    dir: PathBuf,
    /// Write the values of secrets too, into .env, mode 0600
    #[arg(long)]
    secrets: bool,
}

pub(super) async fn run(context: &Context, args: Args) -> Result<(), Failure> {
    let request = local::ExportRequest { deployment: args.deployment, secrets: args.secrets };
    let reply = context.connect().await?.export(request).await?.into_inner();
    let failed = |e: std::io::Error| Problem::new(&codes::UNWRITABLE, format!("{}: {e}", args.dir.display()));
    write(&args.dir, &reply.files).map_err(failed)?;
    let out = &context.out;
    if out.json {
        let files: Vec<&str> = reply.files.iter().map(|file| file.path.as_str()).collect();
        return out.json(&serde_json::json!({
            "project": reply.project, "dir": args.dir, "files": files, "notes": reply.notes,
        }));
    }
    for note in &reply.notes {
        out.note(&say::clean(note));
    }
    out.text(&format!("{} files are in {}\n", reply.files.len(), args.dir.display()))
}

/// Into a folder that nobody else may enter: one of the files may hold passwords.
fn write(dir: &Path, files: &[local::ExportedFile]) -> std::io::Result<()> {
    match fs::read_dir(dir).map(|mut entries| entries.next().is_some()) {
        Ok(true) => return Err(std::io::Error::other("the folder is not empty")),
        Ok(false) => {}
        Err(_) => fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?,
    }
    for file in files {
        let inside = Path::new(&file.path);
        if !inside.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(std::io::Error::other(format!(
                "{} leads out of the folder",
                file.path.escape_debug()
            )));
        }
        make_folders(dir, inside.parent())?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let mut written = options.open(dir.join(inside))?;
        written.write_all(&file.content)?;
        // Whatever the umask: containers read these with users of their own.
        written.set_permissions(fs::Permissions::from_mode(file.mode & 0o777))?;
    }
    Ok(())
}

/// Folders that everyone may look into, below one that only the caller may enter.
fn make_folders(dir: &Path, inside: Option<&Path>) -> std::io::Result<()> {
    let mut folder = dir.to_owned();
    for name in inside.into_iter().flat_map(Path::components) {
        folder.push(name);
        match fs::create_dir(&folder) {
            Ok(()) => fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> local::ExportedFile {
        local::ExportedFile { path: path.into(), content: b"x".to_vec(), mode: 0o600 }
    }

    #[test]
    fn files_are_written_once_with_their_modes_and_never_outside() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("shop");
        let open = local::ExportedFile { mode: 0o644, ..file("conf/d/nginx.conf") };
        // In a process of its own the umask could be set; that these do not depend on it shows in bits that it takes away.
        let shared = local::ExportedFile { mode: 0o666, ..file("shared") };
        write(&dir, &[file(".env"), open, shared]).unwrap();
        let mode = |path: &str| fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(".env"), mode("")), (0o600, 0o700));
        assert_eq!(
            (mode("conf"), mode("conf/d"), mode("conf/d/nginx.conf"), mode("shared")),
            (0o755, 0o755, 0o644, 0o666)
        );
        assert!(write(&dir, &[file("a")]).is_err());
        for bad in ["../a", "/etc/a", "a/../../b"] {
            assert!(write(&folder.path().join("other"), &[file(bad)]).is_err(), "{bad}");
        }
    }
}
