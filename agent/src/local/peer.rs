//! Who is at the other end of the socket.
//!
//! The kernel already asks for write permission on the socket's file. This asks again for every call: root,
//! the daemon's own user, or a member of the socket's group may speak, so that a file mode loosened by
//! accident does not hand out the host.

use tokio::net::unix::UCred;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};

use super::wire;
use crate::codes;
use crate::problem::Problem;

/// Who may speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    /// The daemon's own user.
    pub uid: u32,
    /// The socket's group.
    pub gid: u32,
}

/// Lets a call through, or answers it with [`codes::PERMISSION`].
#[allow(clippy::result_large_err)] // the interceptor's signature is tonic's
pub(super) fn check(allowed: Allowed, request: Request<()>) -> Result<Request<()>, Status> {
    let peer = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred);
    match peer {
        Some(peer) if allowed.permits(peer.uid(), peer.gid(), || groups_of(&peer)) => Ok(request),
        Some(peer) => {
            tracing::warn!(uid = peer.uid(), "a user who may not talk to the agent tried to");
            Err(refusal(&format!("user {}", peer.uid())))
        }
        None => Err(refusal("the caller's credentials are not known")),
    }
}

/// Who speaks, as records name them: the user's name, `user 1000` where the host has none. What the caller says of itself
/// counts for nothing.
pub(super) fn name<T>(request: &Request<T>) -> String {
    let Some(peer) = request.extensions().get::<UdsConnectInfo>().and_then(|info| info.peer_cred) else {
        return "somebody".to_owned();
    };
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in(&users, peer.uid()).map_or_else(|| format!("user {}", peer.uid()), str::to_owned)
}

/// `name:password:uid:…` a line.
fn name_in(users: &str, uid: u32) -> Option<&str> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid) && !name.is_empty()).then_some(name)
    })
}

impl Allowed {
    fn permits(self, uid: u32, gid: u32, more_groups: impl FnOnce() -> Vec<u32>) -> bool {
        uid == 0 || uid == self.uid || gid == self.gid || more_groups().contains(&self.gid)
    }
}

fn refusal(who: &str) -> Status {
    wire::to_status(&Problem::new(&codes::PERMISSION, format!("{who}: not allowed on the agent's socket")))
}

/// Supplementary groups are not part of the socket's credentials; the process's status has them. A process
/// that is gone, or whose number now belongs to another user, has none.
fn groups_of(peer: &UCred) -> Vec<u32> {
    let Some(pid) = peer.pid() else { return Vec::new() };
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    groups_in(&status, peer.uid())
}

fn groups_in(status: &str, uid: u32) -> Vec<u32> {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.into_iter().flat_map(str::split_ascii_whitespace).filter_map(|n| n.parse().ok())
    };
    // Real, effective, saved, file system: the socket's credentials hold the effective one.
    if field("Uid:").nth(1) != Some(uid) {
        return Vec::new();
    }
    field("Groups:").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str =
        "Name:\tbash\nUid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\nGroups:\t27 990 1000 \n";

    #[test]
    fn root_the_daemons_user_and_the_sockets_group_may_speak() {
        let allowed = Allowed { uid: 500, gid: 990 };
        let cases: [(u32, u32, &[u32], bool); 6] = [
            (0, 0, &[], true),
            (500, 1, &[], true),
            (1000, 990, &[], true),
            (1000, 1000, &[27, 990], true),
            (1000, 1000, &[27], false),
            (1000, 500, &[], false),
        ];
        for (uid, gid, more, expected) in cases {
            assert_eq!(allowed.permits(uid, gid, || more.to_vec()), expected, "{uid} {gid} {more:?}");
        }
    }

    #[test]
    fn groups_are_read_from_the_process_of_the_same_user_only() {
        assert_eq!(groups_in(STATUS, 1000), [27, 990, 1000]);
        assert_eq!(groups_in(STATUS, 1001), [0u32; 0]);
        assert_eq!(groups_in("", 0), [0u32; 0]);
    }

    #[test]
    fn a_user_is_named_as_the_host_names_it() {
        let users =
            "root:x:0:0:root:/root:/bin/bash\nbroken\n:x:7:7::/:\nada:x:1000:1000::/home/ada:/bin/sh\n";
        assert_eq!(name_in(users, 1000), Some("ada"));
        assert_eq!((name_in(users, 7), name_in(users, 5)), (None, None));
    }

    #[test]
    fn a_call_without_credentials_is_refused() {
        let status = check(Allowed { uid: 0, gid: 0 }, Request::new(())).unwrap_err();
        assert_eq!(wire::from_status(&status).code, codes::PERMISSION.id);
    }
}
