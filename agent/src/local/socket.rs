//! The socket's file: made once, mode 0660, taken over only from a daemon that is gone.
//!
//! Where systemd holds the socket (`kedge.socket`) it hands the listener over, and the file, its group and its mode are
//! systemd's; everything behind a [`Socket`] only asks for a listener and for who may speak.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use tokio::net::UnixListener;

pub use super::peer::Allowed;
use crate::codes;
use crate::config::Config;
use crate::problem::Problem;

const MODE: u32 = 0o660;

/// A listening socket.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    /// None where the file is not ours to remove.
    file: Option<RemoveOnDrop>,
    allowed: Allowed,
}

/// Removes the socket's file when the daemon ends in order, if it is still the same file.
#[derive(Debug)]
pub struct RemoveOnDrop {
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// The socket that the service manager hands over; else the one of this configuration.
    ///
    /// # Errors
    /// As [`Self::bind`], and [`codes::STATE_FOLDER`] when what is handed over is no unix socket with a file.
    pub fn open(config: &Config) -> Result<Self, Problem> {
        let failed = |why: std::io::Error| {
            Problem::new(&codes::STATE_FOLDER, format!("the socket of the service manager: {why}"))
        };
        match ListenFd::from_env().take_unix_listener(0).map_err(failed)? {
            Some(listener) => {
                let (socket, path) = Self::handed_over(listener).map_err(failed)?;
                for why in overruled(config, &path, socket.allowed.gid) {
                    tracing::warn!("{why}: see `systemctl edit kedge.socket`");
                }
                Ok(socket)
            }
            None => Self::bind(config),
        }
    }

    fn handed_over(listener: std::os::unix::net::UnixListener) -> std::io::Result<(Self, PathBuf)> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let path = address.as_pathname().ok_or_else(|| std::io::Error::other("it has no file"))?;
        let allowed = Allowed { uid: rustix::process::geteuid().as_raw(), gid: fs::metadata(path)?.gid() };
        let socket = Self { listener: UnixListener::from_std(listener)?, allowed, file: None };
        Ok((socket, path.to_owned()))
    }

    /// Makes the socket of this configuration, and its folder.
    ///
    /// # Errors
    /// [`codes::ALREADY_RUNNING`] when a daemon answers there, [`codes::CONFIG`] when the group does not exist,
    /// [`codes::STATE_FOLDER`] when the file cannot be made.
    pub fn bind(config: &Config) -> Result<Self, Problem> {
        let path = config.socket();
        let failed = |why: std::io::Error| {
            Problem::new(&codes::STATE_FOLDER, format!("the socket {} cannot be made: {why}", path.display()))
        };
        let group = config.socket_group.as_deref().map(group_id).transpose()?;
        fs::create_dir_all(&config.run_dir).map_err(failed)?;
        remove_if_stale(&path)?;
        let listener = UnixListener::bind(&path).map_err(failed)?;
        if group.is_some() {
            std::os::unix::fs::chown(&path, None, group).map_err(failed)?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(MODE)).map_err(failed)?;
        let meta = fs::metadata(&path).map_err(failed)?;
        let allowed = Allowed { uid: rustix::process::geteuid().as_raw(), gid: meta.gid() };
        Ok(Self { listener, allowed, file: Some(RemoveOnDrop { path, inode: meta.ino() }) })
    }

    /// Who may speak on it.
    pub fn allowed(&self) -> Allowed {
        self.allowed
    }

    /// The listener, and what removes the file when dropped, where it is ours to remove.
    pub fn into_listener(self) -> (UnixListener, Option<RemoveOnDrop>) {
        (self.listener, self.file)
    }
}

/// What the configuration asks of the socket, and is not so where the service manager has made it.
fn overruled(config: &Config, path: &Path, gid: u32) -> Vec<String> {
    let group = config.socket_group.as_deref().filter(|group| group_id(group).ok() != Some(gid));
    let group =
        group.map(|group| format!("`socket_group = \"{group}\"` is not heeded: the socket's group is {gid}"));
    let folder = path.parent().filter(|folder| *folder != config.run_dir);
    let folder = folder.map(|folder| {
        format!("`run_dir = {:?}` is not heeded: the socket is in {}", config.run_dir, folder.display())
    });
    group.into_iter().chain(folder).collect()
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        if fs::metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the socket's file stays behind");
        }
    }
}

/// A file that nobody listens on is left from a daemon that was killed; anything else is not ours to remove.
fn remove_if_stale(path: &Path) -> Result<(), Problem> {
    let occupied =
        |why: &str| Problem::new(&codes::STATE_FOLDER, format!("{} is there already: {why}", path.display()));
    match fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(occupied(&e.to_string())),
        Ok(meta) if !meta.file_type().is_socket() => return Err(occupied("it is not a socket")),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => {
            Err(Problem::new(&codes::ALREADY_RUNNING, format!("an agent answers on {}", path.display())))
        }
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|e| occupied(&e.to_string()))
        }
        Err(e) => Err(occupied(&e.to_string())),
    }
}

/// By number, or by name in `/etc/group`.
fn group_id(group: &str) -> Result<u32, Problem> {
    if let Ok(id) = group.parse() {
        return Ok(id);
    }
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    group_in(&groups, group)
        .ok_or_else(|| Problem::new(&codes::CONFIG, format!("socket_group: there is no group `{group}`")))
}

fn group_in(groups: &str, name: &str) -> Option<u32> {
    groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1))?.and_then(|id| id.parse().ok())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> Config {
        Config { run_dir: folder.join("run"), ..Config::default() }
    }

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group_and_goes_with_its_daemon() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let socket = Socket::bind(&config).unwrap();
        assert_eq!(fs::metadata(config.socket()).unwrap().permissions().mode() & 0o777, 0o660);
        drop(socket);
        assert!(!config.socket().exists());
    }

    #[test]
    fn what_the_configuration_asks_of_a_socket_that_systemd_made_is_told_where_it_is_not_so() {
        let socket = Path::new("/run/kedge/kedge.sock");
        let told = |group: Option<&str>, gid| {
            let config = Config { socket_group: group.map(str::to_owned), ..Config::default() };
            overruled(&config, socket, gid).len()
        };
        assert_eq!((told(None, 7), told(Some("7"), 7), told(Some("7"), 8)), (0, 0, 1));
        assert_eq!(told(Some("no-such-group"), 7), 1);
        let elsewhere = Config { run_dir: "/run/other".into(), ..Config::default() };
        assert_eq!(overruled(&elsewhere, socket, 7).len(), 1);
    }

    #[tokio::test]
    async fn a_second_daemon_is_told_that_one_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let _first = Socket::bind(&config).unwrap();
        assert_eq!(Socket::bind(&config).unwrap_err().code.id, codes::ALREADY_RUNNING.id);
        assert!(config.socket().exists());
    }

    #[tokio::test]
    async fn a_socket_left_by_a_killed_daemon_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let (_, file) = Socket::bind(&config).unwrap().into_listener();
        std::mem::forget(file);
        assert!(config.socket().exists());
        assert!(Socket::bind(&config).is_ok());
    }

    #[tokio::test]
    async fn a_socket_that_was_handed_over_stays_when_its_daemon_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let (socket, _) = Socket::handed_over(listener).unwrap();
        assert_eq!(socket.allowed().gid, fs::metadata(&path).unwrap().gid());
        let (listener, file) = socket.into_listener();
        let _peer = UnixStream::connect(&path).unwrap();
        listener.accept().await.unwrap();
        drop((listener, file));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        fs::create_dir_all(&config.run_dir).unwrap();
        fs::write(config.socket(), "mine").unwrap();
        assert_eq!(Socket::bind(&config).unwrap_err().code.id, codes::STATE_FOLDER.id);
        assert_eq!(fs::read_to_string(config.socket()).unwrap(), "mine");
    }

    #[test]
    fn groups_are_found_by_number_and_by_whole_name() {
        assert_eq!(group_id("4711").unwrap(), 4711);
        assert_eq!(group_in("root:x:0:\ndocker:x:999:me\ndock:x:5:\n", "dock"), Some(5));
        assert_eq!(group_in("root:x:0:\n", "roo"), None);
        assert_eq!(group_id("no such group").unwrap_err().code.id, codes::CONFIG.id);
    }
}
